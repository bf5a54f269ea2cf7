"""A bundle: what training writes and everything else reads."""

from dualtune_mlx.bundle.manifest import (
    MANIFEST,
    AdapterEntry,
    Bundle,
    StageKey,
    TemplateRef,
    adapter_path,
    read_manifest,
    schema_hash,
    scope_chain,
)

__all__ = [
    "MANIFEST",
    "AdapterEntry",
    "Bundle",
    "StageKey",
    "TemplateRef",
    "adapter_path",
    "read_manifest",
    "schema_hash",
    "scope_chain",
]
