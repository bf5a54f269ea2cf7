"""What is in a bundle, adapter by adapter."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Grounding, Ungrounded


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


def describe_grounding(grounding: Grounding, ungrounded: Ungrounded, most: int | None = None) -> dict[str, str]:
    """Which string arguments are held to the conversation, and which are free and why, in words.

    Args:
        grounding: the arguments that the data always copied.
        ungrounded: the others, with their reasons.
        most: how many arguments are named at most; all of them, where left out.
    """
    held = [
        f"{_name(tool)} {path}"
        for tool, paths in grounding.items()
        for path in paths
        if path not in ungrounded.get(tool, {})
    ]
    free = [f"{_name(tool)} {path} ({why})" for tool, reasons in ungrounded.items() for path, why in reasons.items()]
    named = {"held to the conversation": held, "free strings": free}
    return {what: _join(names, most) for what, names in named.items() if names}


def _name(tool: str) -> str:
    return tool.removeprefix("/")


def _join(names: list[str], most: int | None) -> str:
    shown = names[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
