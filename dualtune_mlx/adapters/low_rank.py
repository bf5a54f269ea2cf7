"""A linear layer with a slot for one low-rank update.

LoRA (arXiv 2106.09685): y = W x + s (x A) B. DoRA (arXiv 2402.09353) also scales every output's row of
W + s (A B)ᵀ to a learned magnitude m.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn


@dataclass(frozen=True)
class LowRank:
    """One layer's update: ``a`` (inputs, rank), ``b`` (rank, outputs), scale s, and DoRA's ``magnitude`` (outputs,).

    ``norm`` (outputs,) is what ``row_norms`` gives for this update, where it is known beforehand; without it every
    pass computes it. The share ``dropout`` of the inputs is dropped only where there is also a ``key``: drawn
    from nothing else, the mask is the same one when a checkpointed pass is computed again.
    """

    a: mx.array
    b: mx.array
    scale: float
    magnitude: mx.array | None = None
    norm: mx.array | None = None
    dropout: float = 0.0
    key: mx.array | None = None

    @classmethod
    def of(
        cls, parts: Mapping[str, mx.array], scale: float, dropout: float = 0.0, key: mx.array | None = None
    ) -> LowRank:
        """The update made of its trainable ``parts``."""
        return cls(parts["a"], parts["b"], scale, parts.get("m"), dropout=dropout, key=key)

    @property
    def parts(self) -> dict[str, mx.array]:
        """The trainable arrays: ``a`` and ``b``, and ``m`` where it is DoRA."""
        both = {"a": self.a, "b": self.b}
        return both if self.magnitude is None else {**both, "m": self.magnitude}

    @property
    def nbytes(self) -> int:
        arrays = [*self.parts.values(), *([] if self.norm is None else [self.norm])]
        return sum(array.nbytes for array in arrays)


class LowRankLinear(nn.Module):
    """Wraps an ``nn.Linear`` or ``nn.QuantizedLinear``; with an empty slot it is that layer, bit for bit."""

    def __init__(self, linear: nn.Linear | nn.QuantizedLinear) -> None:
        super().__init__()
        self.linear = linear
        self.update_slot: LowRank | None = None

    def __call__(self, x: mx.array) -> mx.array:
        y = self.linear(x)
        update = self.update_slot
        if update is None:
            return y
        kept = _dropped(x, update)
        change = update.scale * ((kept @ update.a) @ update.b)
        if update.magnitude is not None:
            # As in PEFT, dropout also acts on the part of W x that the magnitude adds, not on W x itself.
            plain = y if kept is x else self.linear(kept)
            if "bias" in self.linear:
                plain = plain - self.linear.bias
            ratio = _ratio(self.linear, update, update.magnitude)
            change = (ratio - 1) * plain + ratio * change
        return y + change.astype(y.dtype)


def row_norms(linear: nn.Linear | nn.QuantizedLinear, update: LowRank | None = None) -> mx.array:
    """The norms ‖W + s (A B)ᵀ‖ over the inputs, one an output (outputs,), float32; without an update ‖W‖.

    They count as constants: no gradient goes through them (arXiv 2402.09353, section 4.3).
    """
    weight = _weight(linear).astype(mx.float32)
    if update is not None:
        weight = weight + update.scale * (update.a @ update.b).T
    return mx.stop_gradient(mx.linalg.norm(weight, axis=1))


def shape_of(linear: nn.Linear | nn.QuantizedLinear) -> tuple[int, int]:
    """(inputs, outputs) of a layer, quantised or not."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return inputs, outputs


def _dropped(x: mx.array, update: LowRank) -> mx.array:
    """The inputs with a share of them zero and the others raised, so that the expectation stays; else ``x`` itself."""
    if not update.dropout or update.key is None:
        return x
    keep = 1 - update.dropout
    return mx.where(mx.random.bernoulli(keep, x.shape, key=update.key), x * (1 / keep), 0)


def _ratio(linear: nn.Linear | nn.QuantizedLinear, update: LowRank, magnitude: mx.array) -> mx.array:
    """The factor m / ‖W + s (A B)ᵀ‖ of every output (outputs,)."""
    norm = row_norms(linear, update) if update.norm is None else update.norm
    # A row of zeros has no direction, and 0/0 would spread: it stays zero.
    return magnitude / mx.where(norm == 0, 1, norm)


def _weight(linear: nn.Linear | nn.QuantizedLinear) -> mx.array:
    """W (outputs, inputs), dequantised where it is quantised."""
    weight: mx.array = linear.weight
    if isinstance(linear, nn.QuantizedLinear):
        return mx.dequantize(
            weight,
            linear.scales,
            linear.get("biases"),
            group_size=linear.group_size,
            bits=linear.bits,
            mode=linear.mode,
        )
    return weight
