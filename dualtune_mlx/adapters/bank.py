"""The bank: any number of adapters over one resident base model, one of them active.

bank = AdapterBank(model)
bank.activate(bank.load("adapter/"))
bank.activate(None)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from dualtune_mlx.adapters.adapter import Adapter, AdapterConfig
from dualtune_mlx.adapters.low_rank import LowRank, LowRankLinear, shape_of
from dualtune_mlx.errors import AdapterError


class AdapterBank:
    """Gives every linear layer inside ``model.layers`` a slot; switching changes references only.

    The base weights are never written: with no adapter active the model is the base, bit for bit.
    """

    def __init__(self, model: nn.Module) -> None:
        self.slots = _wrap(model)
        self.num_layers = len(model.layers)
        self.active: Adapter | None = None
        self.switches = 0
        self._resident: dict[str, Adapter] = {}

    def load(self, adapter: Adapter | str | Path) -> Adapter:
        """Make an adapter resident; one with the same content is kept only once.

        Raises:
            AdapterError: when it cannot be read or does not fit the model, naming every bad tensor.
        """
        if not isinstance(adapter, Adapter):
            adapter = Adapter.load(adapter)
        self._check(adapter)
        return self._resident.setdefault(adapter.content, adapter)

    def activate(self, adapter: Adapter | None) -> None:
        """Make one adapter act on every following forward pass, or none."""
        if adapter is not None and adapter.content not in self._resident:
            raise AdapterError(
                "the adapter is not in this bank", got=adapter.content[:12], fix="bank.load(adapter) first"
            )
        if adapter is self.active:
            return
        self._place({} if adapter is None else adapter.layers)
        self.active = adapter
        self.switches += 1

    def clear(self) -> None:
        """Activate none and forget all."""
        self.activate(None)
        self._resident.clear()

    @property
    def resident(self) -> tuple[Adapter, ...]:
        return tuple(self._resident.values())

    @contextmanager
    def placed(self, layers: Mapping[str, LowRank]) -> Iterator[None]:
        """For the time of the block, use these updates (traced arrays in training, for example)."""
        self._place(layers)
        try:
            yield
        finally:
            self._place({} if self.active is None else self.active.layers)

    def new_adapter(self, rank: int, scale: float, activation: str, seed: int, layers: int | None = None) -> Adapter:
        """A fresh adapter for the last ``layers`` layers (None: all): A uniform within 1/sqrt(inputs), B zero."""
        count = min(layers or self.num_layers, self.num_layers)
        names = [name for name in self.slots if _place_of(name)[0] >= self.num_layers - count]
        keys = sorted({_place_of(name)[1] for name in names})
        updates = {}
        for key, name in zip(mx.random.split(mx.random.key(seed), len(names)), names, strict=True):
            inputs, outputs = shape_of(self.slots[name].linear)
            bound = inputs**-0.5
            a = mx.random.uniform(-bound, bound, (inputs, rank), key=key)
            updates[name] = LowRank(a, mx.zeros((rank, outputs)), scale)
        return Adapter.from_layers(AdapterConfig(rank, scale, activation, count, tuple(keys)), updates)

    def _place(self, layers: Mapping[str, LowRank]) -> None:
        for name, slot in self.slots.items():
            slot.update_slot = layers.get(name)

    def _check(self, adapter: Adapter) -> None:
        bad = []
        for name, update in adapter.layers.items():
            slot = self.slots.get(name)
            if slot is None:
                bad.append(f"{name}: the model has no such linear layer")
                continue
            inputs, outputs = shape_of(slot.linear)
            rank = adapter.config.rank
            if update.a.shape != (inputs, rank) or update.b.shape != (rank, outputs):
                bad.append(
                    f"{name}: {update.a.shape} and {update.b.shape}, layer is ({inputs}, {outputs}), rank {rank}"
                )
        missing = self._missing(adapter)
        if bad or missing:
            raise AdapterError(
                "the adapter does not fit the model",
                got="; ".join([*bad, *(f"{name}: missing" for name in missing)]),
                fix="use the base model that the adapter was trained on",
            )

    def _missing(self, adapter: Adapter) -> list[str]:
        """Layers that the configuration names and the weights lack (mlx-lm adapts the last ``num_layers``, or all)."""
        count = adapter.config.num_layers
        first = self.num_layers - count if count > 0 else 0
        places = {name: _place_of(name) for name in self.slots}
        wanted = [name for name, (layer, key) in places.items() if layer >= first and key in adapter.config.keys]
        return [name for name in wanted if name not in adapter.layers]


def _place_of(name: str) -> tuple[int, str]:
    """A slot's layer number and its name inside the layer: ``model.layers.3.mlp.up_proj`` is (3, "mlp.up_proj")."""
    _, _, layer, key = name.split(".", 3)
    return int(layer), key


def _wrap(model: nn.Module) -> dict[str, LowRankLinear]:
    """The model's slots by layer path; a model that is wrapped already keeps its slots."""
    layers = dict(model.named_modules())
    slots = {name: module for name, module in layers.items() if isinstance(module, LowRankLinear)}
    inner = {f"{name}.linear" for name in slots}
    plain = {
        name: LowRankLinear(module)
        for name, module in layers.items()
        if name.startswith("model.layers.") and name not in inner and isinstance(module, nn.Linear | nn.QuantizedLinear)
    }
    if plain:
        model.update_modules(tree_unflatten(list(plain.items())))
    slots.update(plain)
    if not slots:
        raise AdapterError("the model has no linear layers under model.layers", got=type(model).__name__)
    return dict(sorted(slots.items()))
