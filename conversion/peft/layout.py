"""The layout of most adapters: the same linear layers, rank and scale in a range of decoder layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dualtune_mlx.adapters import LoRAUpdate
from dualtune_mlx.adapters.bank import layer_and_key
from dualtune_mlx.adapters.config import layer_slice

DECODER = re.compile(r"(?:language_model\.)?model\.layers\.\d+\..+")


def find_uniform_layout(
    layers: Mapping[str, LoRAUpdate], num_layers: int | None
) -> tuple[tuple[int, int | None], tuple[str, ...], int, float] | None:
    """The (layers, keys, rank, scale) of an ``AdapterConfig`` that describe these updates; None where they cannot.

    Args:
        layers: the updates by path.
        num_layers: the model's number of decoder layers. Without it, layers up to the last one are given by number.
    """
    kinds = {(update.rank, update.scale, update.a.ndim) for update in layers.values()}
    if len(kinds) != 1 or not all(DECODER.fullmatch(path) for path in layers):
        return None
    ((rank, scale, dimensions),) = kinds
    places = {layer_and_key(path) for path in layers}
    numbers, keys = sorted({layer for layer, _ in places}), sorted({key for _, key in places})
    covered = range(numbers[0], numbers[-1] + 1)
    if dimensions != 2 or len(places) != len(layers) or len(places) != len(covered) * len(keys):
        return None
    where = layer_slice(covered, num_layers) if num_layers is not None else (covered.start, covered.stop)
    return where, tuple(keys), rank, scale
