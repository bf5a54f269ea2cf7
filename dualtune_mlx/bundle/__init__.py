"""A bundle: what training writes and everything else reads."""

from dualtune_mlx.bundle.manifest import (
    MANIFEST,
    AdapterEntry,
    Bundle,
    TemplateRef,
    adapter_path,
    read_manifest,
    schema_hash,
)

__all__ = ["MANIFEST", "AdapterEntry", "Bundle", "TemplateRef", "adapter_path", "read_manifest", "schema_hash"]
