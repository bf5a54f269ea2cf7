"""Several adapters in one batch: each row takes the low-rank products of its own adapter.

stacks = stack_updates(bank, [one, other, None])              # None: the base weights alone
with bank.overriding(batch_updates(stacks, [0, 0, 2, 1])):    # which of the three each row takes
    model(tokens)                                             # (4, length)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.bank import AdapterBank
from dualtune_mlx.adapters.lora import Linear, LoRAUpdate, dora_ratio, shape_of


@dataclass(frozen=True)
class LoRAStack:
    """The updates of n adapters to one layer, stacked. Smaller ranks, and missing updates, are filled with zeros."""

    a: mx.array
    """A (n, inputs, rank)."""
    b: mx.array
    """B (n, rank, outputs)."""
    scale: mx.array
    """s (n,)."""
    ratio: mx.array | None
    """DoRA's factor of every output (n, outputs), 1 where an update is not DoRA. None where none of them is."""

    @classmethod
    def of(cls, linear: Linear, updates: Sequence[LoRAUpdate | None]) -> LoRAStack:
        """Stack updates of a layer; at least one is not None."""
        inputs, outputs = shape_of(linear)
        present = [update for update in updates if update is not None]
        rank = max(update.a.shape[1] for update in present)
        nothing = LoRAUpdate(mx.zeros((inputs, 0), present[0].a.dtype), mx.zeros((0, outputs), present[0].b.dtype), 0.0)
        rows = [update or nothing for update in updates]
        missing = [rank - row.a.shape[1] for row in rows]
        ratios = [mx.ones(outputs) if row.magnitude is None else dora_ratio(linear, row, row.magnitude) for row in rows]
        return cls(
            mx.stack([mx.pad(row.a, [(0, 0), (0, n)]) for row, n in zip(rows, missing, strict=True)]),
            mx.stack([mx.pad(row.b, [(0, n), (0, 0)]) for row, n in zip(rows, missing, strict=True)]),
            mx.array([row.scale for row in rows]),
            mx.stack(ratios) if any(row.magnitude is not None for row in rows) else None,
        )


@dataclass(frozen=True)
class BatchedUpdate:
    """One layer's update for a batch."""

    stack: LoRAStack
    """The updates to choose from."""
    rows: mx.array
    """Which of them each row of the batch takes (rows,)."""

    def __call__(self, x: mx.array, linear: Linear) -> mx.array:
        """The layer's output for x (rows, length, inputs). The arithmetic is that of ``LoRALinear``."""
        y = linear(x)
        low = mx.gather_mm(x, self.stack.a, rhs_indices=self.rows)
        change = mx.gather_mm(low, self.stack.b, rhs_indices=self.rows)
        change = change * self.stack.scale[self.rows].astype(change.dtype)[:, None, None]
        if self.stack.ratio is not None:
            ratio = self.stack.ratio[self.rows][:, None]
            plain = y - linear.bias if "bias" in linear else y
            change = (ratio - 1) * plain + ratio * change
        return y + change.astype(y.dtype)


def stack_updates(bank: AdapterBank, adapters: Sequence[Adapter | None]) -> dict[str, LoRAStack]:
    """The low-rank updates of resident adapters, stacked by layer path; None stands for the base model.

    Raises:
        AdapterError: when an adapter is not resident.
    """
    updates = [{} if adapter is None else bank.require_resident(adapter).layers for adapter in adapters]
    names = dict.fromkeys(name for layers in updates for name in layers)
    return {name: LoRAStack.of(bank.layers[name].linear, [layers.get(name) for layers in updates]) for name in names}


def batch_updates(stacks: Mapping[str, LoRAStack], rows: Sequence[int]) -> dict[str, BatchedUpdate]:
    """The updates of a batch by layer path.

    Args:
        stacks: what ``stack_updates`` gave.
        rows: for each row of the batch, the index of its adapter in ``stack_updates``.
    """
    indices = mx.array(list(rows))
    return {name: BatchedUpdate(stack, indices) for name, stack in stacks.items()}
