"""Gradient checkpointing: a decoder layer's activations are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import LoRAUpdate
from dualtune_mlx.adapters.lora import LoRALinear
from dualtune_mlx.models import BaseModel


@contextmanager
def recomputed(base: BaseModel, active: bool) -> Iterator[None]:
    """For the time of the block, the model's layers keep their inputs only; no class is patched."""
    if not active:
        yield
        return
    decoder = base.language_model.model
    layers = decoder.layers
    decoder.layers = [Recomputed(layer) for layer in layers]
    try:
        yield
    finally:
        decoder.layers = layers


class Recomputed:
    """Stands in for a decoder layer, with the updates that its slots hold when it is called."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.slots = [module for module in layer.modules() if isinstance(module, LoRALinear)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        held = [(slot, slot.update_slot) for slot in self.slots if isinstance(slot.update_slot, LoRAUpdate)]

        def run(x: mx.array, parts: list[dict[str, mx.array]]) -> mx.array:
            updates = [
                (slot, LoRAUpdate.of(part, update.scale, update.dropout, update.key))
                for (slot, update), part in zip(held, parts, strict=True)
            ]
            with _holding(updates):
                output: mx.array = self.layer(x, *args, **kwargs)
            return output

        checkpointed: mx.array = mx.checkpoint(run)(x, [update.parts for _, update in held])
        return checkpointed


@contextmanager
def _holding(updates: list[tuple[LoRALinear, LoRAUpdate]]) -> Iterator[None]:
    # The backward pass runs after the slots were given back, so the updates are placed again, and taken out.
    before = [(slot, slot.update_slot) for slot, _ in updates]
    for slot, update in updates:
        slot.update_slot = update
    try:
        yield
    finally:
        for slot, held in before:
            slot.update_slot = held
