"""What fusing an adapter costs, saves and changes, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import mlx.core as mx
import numpy as np

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.bank import AdapterBank, place_of
from dualtune_mlx.adapters.lora import Fused, Update, shape_of, type_of

REPEATS = 10
"""How often each part of the break-even is timed; the shortest time counts."""


@dataclass(frozen=True)
class LogitError:
    """How far fused weights are from the low-rank updates that they stand for.

    ``largest``: absolute difference of a logit; ``share``: norm of all differences, over the norm of what the adapter
    changes in the base's logits: at 1 nothing is left of the adapter.
    """

    largest: float
    share: float


def measured_break_even(bank: AdapterBank, adapter: Adapter, dtype: mx.Dtype | None) -> float:
    """The seconds that fusing takes over those that a decoded token saves, in tokens; ``inf`` where it saves none.

    Both are timed on one decoder layer: they grow alike with the number of layers.
    """
    first = min(place_of(name)[0] for name in adapter.layers)
    updates = {name: update for name, update in adapter.layers.items() if place_of(name)[0] == first}
    slots = {name: bank.slots[name] for name in updates}
    inputs = {name: mx.ones((1, 1, shape_of(slot.linear)[0]), type_of(slot.linear)) for name, slot in slots.items()}

    def fuse() -> dict[str, Fused]:
        return {name: Fused.of(slots[name].linear, update, dtype) for name, update in updates.items()}

    def decode(layers: Mapping[str, Update]) -> float:
        with bank.overriding(layers):
            return _seconds(lambda: [slot(inputs[name]) for name, slot in slots.items()])

    fused = fuse()
    fusing = min(_seconds(lambda: [layer.weight for layer in fuse().values()]) for _ in range(REPEATS))
    # In turns: a machine that is busy for a while is so for both.
    low_rank, whole = map(min, zip(*((decode(updates), decode(fused)) for _ in range(REPEATS)), strict=True))
    return fusing / (low_rank - whole) if low_rank > whole else inf


def logit_error(
    bank: AdapterBank, adapter: Adapter, layers: Mapping[str, Update], prompts: Sequence[Sequence[int]]
) -> LogitError:
    """Compare an adapter's fused layers with its low-rank updates, over all positions of some prompts."""
    largest = difference = change = 0.0
    for prompt in prompts:
        base, low_rank, fused = (_logits(bank, updates, prompt) for updates in ({}, adapter.layers, layers))
        largest = max(largest, float(np.abs(fused - low_rank).max()))
        difference += float(np.square(fused - low_rank).sum())
        change += float(np.square(low_rank - base).sum())
    return LogitError(largest, (difference / change) ** 0.5 if change else inf)


def _logits(bank: AdapterBank, updates: Mapping[str, Update], prompt: Sequence[int]) -> np.ndarray:
    with bank.overriding(updates):
        logits: mx.array = bank.model(mx.array([list(prompt)]))
    return np.array(logits.astype(mx.float32)).astype(np.float64)


def _seconds(make: Callable[[], list[mx.array]]) -> float:
    """Seconds to build some arrays and evaluate them."""
    began = time.perf_counter()
    mx.eval(make())
    return time.perf_counter() - began
