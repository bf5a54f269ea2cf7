"""What is in a bundle, adapter by adapter."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.bundle import Bundle


def summarize_adapters(bundle: Bundle) -> list[dict[str, Any]]:
    """One row for each adapter of a bundle, as JSON.

    ``rank`` is None where an adapter's layers have several ranks. ``bytes`` are those of its tensors.

    Raises:
        AdapterError, BundleError: when an adapter cannot be read, or is not the one that the manifest describes.
    """
    rows = []
    for (stage, scope), entry in bundle.stages.items():
        adapter = bundle.load_adapter(stage, scope)
        row = {
            "stage": stage,
            "scope": scope,
            "kind": adapter.config.kind,
            "rank": adapter.config.rank or None,
            "activation": adapter.config.activation,
            "template": entry.template.name if entry.template else bundle.template,
            "bytes": adapter.nbytes,
            "path": entry.path,
            "content": entry.content_hash,
        }
        rows.append(row)
    return rows
