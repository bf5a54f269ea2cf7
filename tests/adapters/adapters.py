"""Adapters that do something, for the tests of this folder."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import Adapter, AdapterBank, LowRank
from tests import tiny

TOKENS = mx.array([[7, 30, 12, 99, 4, 51]])


def plain(kind: str = "llama", quantised: bool = False) -> nn.Module:
    """The tiny model as mlx-lm gives it, without slots; the same weights every time."""
    model = tiny.unwrapped(kind=kind)
    if quantised:
        nn.quantize(model, group_size=32, bits=4)
    mx.eval(model.parameters())
    return model


def adapter_for(
    bank: AdapterBank, seed: int, activation: str = "all", rank: int = 4, scale: float = 2.0, layers: int | None = None
) -> Adapter:
    """An adapter whose B is not zero, so that it changes every logit."""
    fresh = bank.new_adapter(rank, scale, activation, seed, layers)
    updates = {
        name: LowRank(update.a, mx.random.normal(update.b.shape, key=mx.random.key(1000 * seed + i)) * 0.3, scale)
        for i, (name, update) in enumerate(fresh.layers.items())
    }
    return Adapter.from_layers(fresh.config, updates)


def same(left: mx.array, right: mx.array) -> bool:
    """Whether two arrays are equal bit for bit."""
    return left.dtype == right.dtype and bool(mx.array_equal(left.view(mx.uint32), right.view(mx.uint32)).item())
