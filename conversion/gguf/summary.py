"""What a conversion is going to write, in a few rows."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from dualtune_mlx.conversion.gguf.convert import ConversionPlan


def summarize_weights(plan: ConversionPlan) -> list[dict[str, Any]]:
    """One row for all tensors that differ in their layer alone: how many they are, and what becomes of them."""
    counts = Counter(
        (_any_layer(weight.source), weight.shape, weight.stored, weight.becomes, _any_layer(weight.target))
        for weight in plan.weights
    )
    return [
        {"source": source, "count": count, "shape": shape, "stored": stored, "becomes": becomes, "target": target}
        for (source, shape, stored, becomes, target), count in counts.items()
    ]


def _any_layer(name: str) -> str:
    """A tensor's name with ``*`` for numbers."""
    return re.sub(r"\d+", "*", name)
