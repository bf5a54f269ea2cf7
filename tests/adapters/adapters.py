"""Adapters that do something, for the tests of this folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import Adapter, AdapterBank, LoRAUpdate
from tests import tiny

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
TOKENS = mx.array([[7, 30, 12, 99, 4, 51]])


def plain(kind: str = "llama", quantised: bool = False) -> nn.Module:
    """The tiny model as mlx-lm gives it, without adapter layers; the same weights every time."""
    model = tiny.unwrapped(kind=kind)
    if quantised:
        nn.quantize(model, group_size=32, bits=4)
    mx.eval(model.parameters())
    return model


def adapter_for(
    bank: AdapterBank, seed: int, activation: str = "all", rank: int = 4, scale: float = 2.0, **options: Any
) -> Adapter:
    """An adapter whose B is not zero, and whose m is not ‖W‖, so that it changes every logit."""
    fresh = bank.new_adapter(rank=rank, scale=scale, activation=activation, seed=seed, **options)
    updates = {name: move(update, 1000 * seed + i) for i, (name, update) in enumerate(fresh.layers.items())}
    return Adapter.from_layers(fresh.config, updates)


def move(update: LoRAUpdate, seed: int) -> LoRAUpdate:
    """A fresh update as training might leave it."""
    b = mx.random.normal(update.b.shape, key=mx.random.key(seed)) * 0.3
    m = update.magnitude
    if m is not None:
        m = m * mx.random.uniform(0.5, 1.5, m.shape, key=mx.random.key(seed + 500))
    return replace(update, b=b, magnitude=m)


def same(left: mx.array, right: mx.array) -> bool:
    """Whether two arrays are equal bit for bit."""
    return left.dtype == right.dtype and bool(mx.array_equal(left.view(mx.uint32), right.view(mx.uint32)).item())


def rewrite(folder: Path, **changes) -> None:
    """Change tensors of a saved adapter; None takes one away."""
    path = folder / "adapters.safetensors"
    tensors = {**mx.load(str(path)), **{key.replace("/", "."): value for key, value in changes.items()}}
    mx.eval(tensors)
    mx.save_safetensors(str(path), {key: value for key, value in tensors.items() if value is not None})


def reconfigure(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
