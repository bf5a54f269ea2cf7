"""Several adapters in one batch: each row of it takes its own low-rank products.

stacks = side_by_side(bank, [one, other, None])
with bank.placed(rows_of(stacks, [0, 0, 2, 1])):     # None: a row under the base weights
    model(tokens)                                    # (4, length)
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
    """One layer's updates side by side: ``a`` (n, inputs, rank), ``b`` (n, rank, outputs), ``scale`` (n,).

    Smaller ranks are filled up with zeros, which change nothing; what has no update is all zeros. ``ratio``
    (n, outputs) is what DoRA scales every output by, 1 where it is not DoRA; None where it is none of them.
    """

    a: mx.array
    b: mx.array
    scale: mx.array
    ratio: mx.array | None

    @classmethod
    def of(cls, linear: Linear, updates: Sequence[LoRAUpdate | None]) -> LoRAStack:
        inputs, outputs = shape_of(linear)
        there = [update for update in updates if update is not None]
        rank = max(update.a.shape[1] for update in there)
        nothing = LoRAUpdate(mx.zeros((inputs, 0), there[0].a.dtype), mx.zeros((0, outputs), there[0].b.dtype), 0.0)
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
    """A layer's update of a batch: ``rows`` (rows,) says which of the stack's each row takes."""

    stack: LoRAStack
    rows: mx.array

    def __call__(self, x: mx.array, linear: Linear) -> mx.array:
        """What the layer then gives for x (rows, length, inputs); the sums are ``LowRankLinear``'s."""
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
    """The low-rank updates of resident adapters by layer; None is the base model.

    Raises:
        AdapterError: when one is not resident.
    """
    layers = [{} if adapter is None else bank.require_resident(adapter).layers for adapter in adapters]
    names = dict.fromkeys(name for updates in layers for name in updates)
    return {name: LoRAStack.of(bank.slots[name].linear, [updates.get(name) for updates in layers]) for name in names}


def batch_updates(stacks: Mapping[str, LoRAStack], rows: Sequence[int]) -> dict[str, BatchedUpdate]:
    """The updates of a batch whose rows take these of the adapters, in their order in ``stack_updates``."""
    indices = mx.array(list(rows))
    return {name: BatchedUpdate(stack, indices) for name, stack in stacks.items()}
