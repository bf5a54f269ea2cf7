"""The memory budget of an engine, divided among weights, adapters, kept prefixes and fused weights."""

from __future__ import annotations

import mlx.core as mx
from mlx.utils import tree_flatten

from dualtune_mlx.errors import ModelError, count_of
from dualtune_mlx.kv import PrefixCache
from dualtune_mlx.models import BaseModel


def divide_budget(budget: int, base: BaseModel, prefixes: PrefixCache) -> int:
    """Divide a memory budget, and return the bytes that are left for fused weights.

    Weights and adapters take what they need. Kept prefixes get at most half of the rest: ``prefixes.budget`` is lowered
    to it.

    Args:
        budget: bytes that all of them may take together.
        base: the base model, with the adapters resident in it.
        prefixes: the kept prefixes.

    Raises:
        ModelError: when weights and adapters alone exceed the budget.
    """
    weights: dict[str, mx.array] = tree_flatten(base.model.parameters(), destination={})  # type: ignore[assignment]
    needed = sum(array.nbytes for array in weights.values())
    needed += sum(adapter.nbytes for adapter in base.bank.resident)
    if needed > budget:
        raise ModelError(
            "the model and its adapters exceed the memory budget",
            where=base.name,
            got=count_of(needed, "byte"),
            expected=f"at most {count_of(budget, 'byte')}",
            fix="raise the budget, or use a smaller or quantised model",
        )
    prefixes.budget = min(prefixes.budget, (budget - needed) // 2)
    return budget - needed - prefixes.budget
