"""The bank: any number of adapters over one resident base model, one of them active.

bank = AdapterBank(model)
bank.activate(bank.load("adapter/"))
bank.activate(None)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from dualtune_mlx.adapters.adapter import Adapter
from dualtune_mlx.adapters.config import PARTS, AdapterConfig, layer_slice
from dualtune_mlx.adapters.layers import AdapterLayer, expected_shapes, unwrap, wrap
from dualtune_mlx.adapters.lora import LayerUpdate, Linear, LinearUpdate, LoRALinear, LoRAUpdate, row_norms, shape_of
from dualtune_mlx.adapters.module_weights import ModuleWeights, TrainedTokenRows
from dualtune_mlx.adapters.targets import layer_range, matching_keys
from dualtune_mlx.errors import AdapterError

WRAPPED = "language_model."
"""What comes before a layer's path where a multimodal checkpoint's wrapper holds the model."""


class AdapterBank:
    """Gives every linear layer inside ``model.layers`` a slot; switching changes references only.

    Other modules (embeddings, experts, the head, norms) get theirs, ``others``, when an adapter that needs them comes.
    The base weights are never written: with no adapter active the model is the base, bit for bit.
    An adapter acts by its low-rank updates, or by whole weights where ``keep_fused`` has given it some.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.slots = _wrap_linears(model)
        self.others: dict[str, AdapterLayer] = {}
        self.num_layers = len(model.layers)
        self.active: Adapter | None = None
        self.switches = 0
        self._resident: dict[str, Adapter] = {}
        self._fused: dict[str, Mapping[str, LinearUpdate]] = {}
        self._placed: list[Mapping[str, LayerUpdate]] = []

    def load(self, adapter: Adapter | str | Path) -> Adapter:
        """Make an adapter resident; one with the same content is kept only once.

        Raises:
            AdapterError: when it cannot be read or does not fit the model, naming every bad tensor.
        """
        if not isinstance(adapter, Adapter):
            adapter = Adapter.load(adapter)
        if adapter.content_hash not in self._resident:
            self.check(adapter)
            self._open(adapter)
            self._resident[adapter.content_hash] = self._with_norms(adapter)
        return self._resident[adapter.content_hash]

    def activate(self, adapter: Adapter | None) -> None:
        """Make one adapter act on every following forward pass, or none.

        Raises:
            AdapterError: when it is not resident.
        """
        resident = None if adapter is None else self.require_resident(adapter)
        if resident is self.active:
            return
        self.active = resident
        self._fill()
        self.switches += 1

    def require_resident(self, adapter: Adapter) -> Adapter:
        """The resident adapter of that content.

        Raises:
            AdapterError: when there is none.
        """
        if adapter.content_hash not in self._resident:
            raise AdapterError(
                "the adapter is not in this bank", got=adapter.content_hash[:12], fix="bank.load(adapter) first"
            )
        return self._resident[adapter.content_hash]

    def unload(self, adapter: Adapter) -> None:
        """Forget an adapter; where it is active, none is afterwards."""
        if self.active is not None and self.active.content_hash == adapter.content_hash:
            self.activate(None)
        self._resident.pop(adapter.content_hash, None)
        self._fused.pop(adapter.content_hash, None)

    def clear(self) -> None:
        """Activate none and forget all."""
        self.activate(None)
        self._resident.clear()
        self._fused.clear()

    @property
    def resident(self) -> tuple[Adapter, ...]:
        return tuple(self._resident.values())

    @property
    def fused(self) -> Mapping[str, Mapping[str, LinearUpdate]]:
        """By the content of resident adapters, the whole weights by which they act instead of low-rank."""
        return self._fused

    def keep_fused(self, adapter: Adapter, layers: Mapping[str, LinearUpdate]) -> None:
        """From now on, let an adapter act by whole weights of its layers; ``FusionCache`` decides when.

        Raises:
            AdapterError: when the adapter is not resident.
        """
        self._fused[self.require_resident(adapter).content_hash] = layers
        if self.active is self.require_resident(adapter):
            self._fill()

    def drop_fused(self, adapter: Adapter) -> None:
        """Let an adapter act by its low-rank updates again, and release its whole weights."""
        dropped = self._fused.pop(adapter.content_hash, None)
        if dropped is not None and self.active is self.require_resident(adapter):
            self._fill()

    def only_linear(self, adapter: Adapter) -> bool:
        """Whether an adapter changes the decoder layers' linear layers and nothing else."""
        return not adapter.whole and adapter.layers.keys() <= self.slots.keys()

    @contextmanager
    def overriding(self, layers: Mapping[str, LayerUpdate]) -> Iterator[None]:
        """For the time of the block, use these updates (traced arrays in training, for example)."""
        self._placed.append(layers)
        self._fill()
        try:
            yield
        finally:
            self._placed.pop()
            self._fill()

    def new_adapter(
        self,
        rank: int,
        scale: float,
        activation: str,
        seed: int,
        layers: str = "all",
        targets: Sequence[str] = ("*",),
        dora: bool = False,
        dropout: float = 0.0,
    ) -> Adapter:
        """A fresh adapter that changes nothing yet: A uniform within 1/sqrt(inputs), B zero, DoRA's m = ‖W‖.

        It is for the linear layers that match ``targets`` ("*", "q_proj", "self_attn.*") in the decoder layers
        ``layers`` ("all", "last:16", "first:8"). ``dropout`` is only noted down in its configuration.

        Raises:
            UsageError: when ``layers`` has an unknown form, or one of ``targets`` matches nothing.
        """
        chosen = layer_range(layers, self.num_layers)
        names = {key for layer, key in map(layer_and_key, self.slots) if layer in chosen}
        keys = matching_keys(sorted(names), targets)
        where = layer_slice(chosen, self.num_layers)
        config = AdapterConfig(rank, scale, activation, where, keys, "dora" if dora else "lora", dropout)
        names = self._covered(config)
        updates = {
            name: self._fresh(name, config, key)
            for name, key in zip(names, mx.random.split(mx.random.key(seed), len(names)), strict=True)
        }
        return Adapter.from_layers(config, updates)

    def _fresh(self, name: str, config: AdapterConfig, key: mx.array) -> LoRAUpdate:
        linear = self.slots[name].linear
        shapes = _linear_shapes(linear, config)
        bound = shapes["a"][0] ** -0.5
        a = mx.random.uniform(-bound, bound, shapes["a"], key=key)
        magnitude = row_norms(linear) if config.kind == "dora" else None
        return LoRAUpdate(a, mx.zeros(shapes["b"]), config.scale, magnitude)

    def _with_norms(self, adapter: Adapter) -> Adapter:
        """DoRA's norms, once for all passes; they need every layer's whole weight."""
        if adapter.config.kind != "dora":
            return adapter
        layers = {}
        for name, update in adapter.layers.items():
            linear: Linear = unwrap(self.others[name] if name in self.others else self.slots[name])  # type: ignore[assignment]
            layers[name] = replace(update, norm=row_norms(linear, update))
            mx.eval(layers[name].norm)  # one layer's weight at a time, not all of them dequantised at once
        return replace(adapter, layers=layers)

    def _fill(self) -> None:
        """Fill the slots: with what is placed, else with the active adapter, fused where it is."""
        layers: Mapping[str, LayerUpdate] = {}
        if self._placed:
            layers = self._placed[-1]
        elif self.active is not None:
            layers = self._fused.get(self.active.content_hash, self.active.updates)
        slots: dict[str, AdapterLayer] = {**self.slots, **self.others}
        for name, slot in slots.items():
            slot.update_slot = layers.get(name)

    def _covered(self, config: AdapterConfig) -> list[str]:
        """The paths of the layers that a configuration names."""
        if config.listed:
            return list(config.scales)
        layers = config.covered(self.num_layers)
        places = {name: layer_and_key(name) for name in self.slots}
        return [
            name for name, (layer, key) in places.items() if layer in layers and (not config.keys or key in config.keys)
        ]

    def check(self, adapter: Adapter) -> None:
        """Say whether an adapter fits the model; no weight is read.

        Raises:
            AdapterError: when it does not, naming every bad tensor.
        """
        covered = self._covered(adapter.config)
        modules = dict(self.model.named_modules())
        listed = adapter.config.listed
        bad = []
        for name, update in adapter.updates.items():
            shapes = {part: array.shape for part, array in update.parts.items()}
            if name not in (modules if listed else self.slots):
                bad.append(f"{name}: the model has no such {'module' if listed else 'linear layer'}")
            elif name not in (*covered, *adapter.config.whole):
                bad.append(f"{name}: not in the layers and keys of the adapter's configuration")
            elif shapes != (expected := _expected_shapes_for(unwrap(modules[name]), update, adapter.config)):
                bad.append(f"{name}: {_format_shapes(shapes)} instead of {_format_shapes(expected)}")
            elif isinstance(update, TrainedTokenRows) and not _has_rows(unwrap(modules[name]), update):
                bad.append(f"{name}: rows that it has not among {update.ids.tolist()}")
        bad += [f"{name}: missing" for name in covered if name not in adapter.layers]
        bad += [f"{name}: changed in two ways" for name in adapter.layers.keys() & adapter.whole.keys()]
        if bad:
            raise AdapterError(
                "the adapter does not fit the model",
                got="; ".join(bad),
                fix="use the base model that the adapter was trained on",
            )

    def _open(self, adapter: Adapter) -> None:
        """Give the modules that an adapter changes a slot, where they have none."""
        modules = dict(self.model.named_modules())
        new = {name: wrap(modules[name]) for name in adapter.updates.keys() - self.slots.keys()}
        if new:
            self.model.update_modules(tree_unflatten(list(new.items())))
            self.others |= new


def layer_and_key(name: str) -> tuple[int, str]:
    """A slot's layer number and its name inside the layer: ``model.layers.3.mlp.up_proj`` is (3, "mlp.up_proj")."""
    layer, key = name.removeprefix(WRAPPED).removeprefix("model.layers.").split(".", 1)
    return int(layer), key


def _expected_shapes_for(
    module: nn.Module, update: LoRAUpdate | ModuleWeights, config: AdapterConfig
) -> dict[str, tuple[int, ...]]:
    """The shapes that an update's parts must have; none where its kind does not go with the module's."""
    if config.listed or not isinstance(module, Linear):
        return expected_shapes(module, update) or {}
    return _linear_shapes(module, config)


def _has_rows(module: nn.Module, update: TrainedTokenRows) -> bool:
    return bool(((update.ids >= 0) & (update.ids < module.weight.shape[0])).all().item())


def _linear_shapes(linear: Linear, config: AdapterConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's parts under a configuration."""
    inputs, outputs = shape_of(linear)
    shapes = {"a": (inputs, config.rank), "b": (config.rank, outputs), "m": (outputs,)}
    return {part: shapes[part] for part in PARTS[config.kind]}


def _format_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{part} {shape}" for part, shape in shapes.items()) or "nothing: no such update fits it"


def _wrap_linears(model: nn.Module) -> dict[str, LoRALinear]:
    """The model's slots by layer path; a model that is wrapped already keeps its slots."""
    layers = dict(model.named_modules())
    layers = {name: layer for name, layer in layers.items() if name.removeprefix(WRAPPED).startswith("model.layers.")}
    slots = {name: module for name, module in layers.items() if isinstance(module, LoRALinear)}
    inner = {f"{name}.linear" for name in slots}
    plain = {
        name: LoRALinear(module) for name, module in layers.items() if name not in inner and isinstance(module, Linear)
    }
    if plain:
        model.update_modules(tree_unflatten(list(plain.items())))
    slots.update(plain)
    if not slots:
        raise AdapterError("the model has no linear layers under model.layers", got=type(model).__name__)
    return dict(sorted(slots.items()))
