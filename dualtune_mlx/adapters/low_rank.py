"""A linear layer with a slot for one low-rank update: y = W x + s (x A) B (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn


@dataclass(frozen=True)
class LowRank:
    """One layer's update: ``a`` (inputs, rank), ``b`` (rank, outputs), and the scale s."""

    a: mx.array
    b: mx.array
    scale: float


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
        return y + (update.scale * ((x @ update.a) @ update.b)).astype(y.dtype)


def shape_of(linear: nn.Linear | nn.QuantizedLinear) -> tuple[int, int]:
    """(inputs, outputs) of a layer, quantised or not."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return inputs, outputs
