"""Gradient checkpointing: the backward pass computes a decoder layer's activations again instead of keeping them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import LoRALinear, LoRAUpdate
from dualtune_mlx.models import BaseModel


@contextmanager
def checkpoint_layers(base: BaseModel, enabled: bool) -> Iterator[None]:
    """Within the block the model's decoder layers keep only their inputs. No class is patched."""
    if not enabled:
        yield
        return
    decoder = base.language_model.model
    layers = decoder.layers
    decoder.layers = [CheckpointedLayer(layer) for layer in layers]
    try:
        yield
    finally:
        decoder.layers = layers


class CheckpointedLayer:
    """Stands in for a decoder layer, with the updates that its linear layers have when it is called."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.linears = [module for module in layer.modules() if isinstance(module, LoRALinear)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        active = [(one, one.active_update) for one in self.linears if isinstance(one.active_update, LoRAUpdate)]

        def forward(x: mx.array, parts: list[dict[str, mx.array]]) -> mx.array:
            updates = [
                (linear, LoRAUpdate.of(part, update.scale, update.dropout, update.key))
                for (linear, update), part in zip(active, parts, strict=True)
            ]
            with _place_updates(updates):
                output: mx.array = self.layer(x, *args, **kwargs)
            return output

        output: mx.array = mx.checkpoint(forward)(x, [update.parts for _, update in active])
        return output


@contextmanager
def _place_updates(updates: list[tuple[LoRALinear, LoRAUpdate]]) -> Iterator[None]:
    # The backward pass comes when the layers have other updates already, so these are placed for its time.
    before = [(linear, linear.active_update) for linear, _ in updates]
    for linear, update in updates:
        linear.active_update = update
    try:
        yield
    finally:
        for linear, previous in before:
            linear.active_update = previous
