"""A bundle: what training writes and everything else reads."""

from dualtune_mlx.bundle.manifest import MANIFEST, Bundle, Named, Slot, adapter_path, read_manifest, schema_hash

__all__ = ["MANIFEST", "Bundle", "Named", "Slot", "adapter_path", "read_manifest", "schema_hash"]
