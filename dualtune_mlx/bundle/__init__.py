"""A bundle: what training writes and everything else reads."""

from dualtune_mlx.bundle.manifest import (
    AdapterEntry,
    Bundle,
    StageKey,
    TemplateRef,
    adapter_path,
    schema_hash,
    scope_chain,
)
from dualtune_mlx.bundle.manifest_file import MANIFEST, read_manifest

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
