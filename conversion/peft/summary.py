"""What an adapter changes, in a few rows."""

from __future__ import annotations

import re
from typing import Any

from dualtune_mlx.adapters import Adapter, LoRAUpdate, TrainedTokenRows


def summarize_adapter(adapter: Adapter) -> list[dict[str, Any]]:
    """One row for all modules that differ in their layer alone: how many they are, and their parameters."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path, update in sorted(adapter.updates.items()):
        name = re.sub(r"\.layers\.\d+\.", ".layers.*.", path)
        kind, rank, scale = "rows" if isinstance(update, TrainedTokenRows) else "weights", None, None
        if isinstance(update, LoRAUpdate):
            kind, rank, scale = adapter.config.kind, update.rank, update.scale
        row = rows.setdefault(
            (name, kind, rank, scale),
            {"modules": name, "count": 0, "kind": kind, "rank": rank, "scale": scale, "parameters": 0},
        )
        row["count"] += 1
        row["parameters"] += sum(array.size for array in update.parts.values())
    return list(rows.values())
