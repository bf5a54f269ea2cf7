"""The adapter bank: it holds adapters over one resident base model, with their fused weights; one of them is active.

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
"""The prefix of a layer's path inside a multimodal checkpoint's wrapper."""


class AdapterBank:
    """Holds adapters, and makes one of them act. Switching changes references only.

    Every linear layer inside ``model.layers`` is wrapped at once. Other modules (embeddings, experts, the head, norms)
    are wrapped when an adapter that changes them is loaded.
    The base weights are never written: with no adapter active the model is the base, bit for bit.
    An adapter acts by its fused weights where the bank holds them, else by its low-rank updates. ``FusionCache``
    decides which adapters are fused.

    Args:
        model: mlx-lm's model. One that has been wrapped before keeps its adapter layers.

    Raises:
        AdapterError: when the model has no linear layers under ``model.layers``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers = _wrap_linears(model)
        self.other_layers: dict[str, AdapterLayer] = {}
        self.num_layers = len(model.layers)
        self.active: Adapter | None = None
        self.switches = 0
        self._resident: dict[str, Adapter] = {}
        self._fused: dict[str, Mapping[str, LinearUpdate]] = {}
        self._overrides: list[Mapping[str, LayerUpdate]] = []

    def load(self, adapter: Adapter | str | Path) -> Adapter:
        """Make an adapter resident. Adapters with the same content are kept once.

        Raises:
            AdapterError: when it cannot be read or does not fit the model, naming every bad tensor.
        """
        if not isinstance(adapter, Adapter):
            adapter = Adapter.load(adapter)
        if adapter.content_hash not in self._resident:
            self.check(adapter)
            self._wrap_modules(adapter)
            self._resident[adapter.content_hash] = self._with_norms(adapter)
        return self._resident[adapter.content_hash]

    def activate(self, adapter: Adapter | None) -> None:
        """Make one adapter act on every following forward pass, or none.

        Raises:
            AdapterError: when the adapter is not resident.
        """
        resident = None if adapter is None else self.require_resident(adapter)
        if resident is self.active:
            return
        self.active = resident
        self._assign()
        self.switches += 1

    def require_resident(self, adapter: Adapter) -> Adapter:
        """The resident adapter with the same content.

        Raises:
            AdapterError: when there is none.
        """
        if adapter.content_hash not in self._resident:
            raise AdapterError(
                "the adapter is not in this bank", got=adapter.content_hash[:12], fix="bank.load(adapter) first"
            )
        return self._resident[adapter.content_hash]

    def unload(self, adapter: Adapter) -> None:
        """Forget an adapter. If it is active, no adapter is active afterwards."""
        if self.active is not None and self.active.content_hash == adapter.content_hash:
            self.activate(None)
        self._resident.pop(adapter.content_hash, None)
        self._fused.pop(adapter.content_hash, None)

    def clear(self) -> None:
        """Forget all adapters. No adapter is active afterwards."""
        self.activate(None)
        self._resident.clear()
        self._fused.clear()

    @property
    def resident(self) -> tuple[Adapter, ...]:
        """All resident adapters, in the order in which they were loaded."""
        return tuple(self._resident.values())

    @property
    def fused(self) -> Mapping[str, Mapping[str, LinearUpdate]]:
        """The fused weights of resident adapters: by content hash, then by layer path."""
        return self._fused

    def keep_fused(self, adapter: Adapter, layers: Mapping[str, LinearUpdate]) -> None:
        """Let an adapter act by fused weights from now on. ``FusionCache`` decides when.

        Raises:
            AdapterError: when the adapter is not resident.
        """
        self._fused[self.require_resident(adapter).content_hash] = layers
        if self.active is self.require_resident(adapter):
            self._assign()

    def drop_fused(self, adapter: Adapter) -> None:
        """Let an adapter act by its low-rank updates again, and release its fused weights."""
        dropped = self._fused.pop(adapter.content_hash, None)
        if dropped is not None and self.active is self.require_resident(adapter):
            self._assign()

    def changes_only_linears(self, adapter: Adapter) -> bool:
        """Whether an adapter changes linear layers of decoder layers and nothing else."""
        return not adapter.modules and adapter.layers.keys() <= self.layers.keys()

    @contextmanager
    def overriding(self, updates: Mapping[str, LayerUpdate]) -> Iterator[None]:
        """Inside the block these updates act, by layer path, instead of the active adapter.

        Training gives traced arrays here, for example. Blocks may be nested: the innermost counts.
        """
        self._overrides.append(updates)
        self._assign()
        try:
            yield
        finally:
            self._overrides.pop()
            self._assign()

    def new_adapter(
        self,
        *,
        rank: int,
        scale: float,
        activation: str,
        seed: int,
        layers: str = "all",
        targets: Sequence[str] = ("*",),
        dora: bool = False,
        dropout: float = 0.0,
    ) -> Adapter:
        """A new adapter that changes nothing yet: A uniform within 1/sqrt(inputs), B zero, DoRA's m = ‖W‖.

        Args:
            rank: of every layer's update.
            scale: by which A B is multiplied.
            activation: where it begins to act: "all", "turn" or "invocation".
            seed: of A's random values.
            layers: the decoder layers: "all", "last:16" or "first:8".
            targets: patterns of the linear layers inside a decoder layer: "*", "q_proj", "self_attn.*".
            dora: whether it is DoRA.
            dropout: noted in its configuration; training applies it.

        Raises:
            UsageError: when ``layers`` has an unknown form, or one of ``targets`` matches nothing.
        """
        chosen = layer_range(layers, self.num_layers)
        inside = {key for layer, key in map(layer_and_key, self.layers) if layer in chosen}
        config = AdapterConfig(
            rank=rank,
            scale=scale,
            activation=activation,
            layers=layer_slice(chosen, self.num_layers),
            keys=matching_keys(sorted(inside), targets),
            kind="dora" if dora else "lora",
            dropout=dropout,
        )
        names = self._changed_paths(config)
        updates = {
            name: self._new_update(name, config, key)
            for name, key in zip(names, mx.random.split(mx.random.key(seed), len(names)), strict=True)
        }
        return Adapter.from_layers(config, updates)

    def _new_update(self, name: str, config: AdapterConfig, key: mx.array) -> LoRAUpdate:
        linear = self.layers[name].linear
        shapes = _linear_shapes(linear, config)
        bound = shapes["a"][0] ** -0.5
        a = mx.random.uniform(-bound, bound, shapes["a"], key=key)
        magnitude = row_norms(linear) if config.kind == "dora" else None
        return LoRAUpdate(a, mx.zeros(shapes["b"]), config.scale, magnitude)

    def _with_norms(self, adapter: Adapter) -> Adapter:
        """A DoRA adapter with its norms, computed once for all passes: they need every layer's whole weight."""
        if adapter.config.kind != "dora":
            return adapter
        layers = {}
        for name, update in adapter.layers.items():
            linear: Linear = unwrap(self.other_layers[name] if name in self.other_layers else self.layers[name])  # type: ignore[assignment]
            layers[name] = replace(update, norm=row_norms(linear, update))
            mx.eval(layers[name].norm)  # one layer's weight at a time, not all of them dequantised at once
        return replace(adapter, layers=layers)

    def _assign(self) -> None:
        """Give every layer its active update: an override's, else the active adapter's, fused where it has been."""
        updates: Mapping[str, LayerUpdate] = {}
        if self._overrides:
            updates = self._overrides[-1]
        elif self.active is not None:
            updates = self._fused.get(self.active.content_hash, self.active.updates)
        layers: dict[str, AdapterLayer] = {**self.layers, **self.other_layers}
        for name, layer in layers.items():
            layer.active_update = updates.get(name)

    def _changed_paths(self, config: AdapterConfig) -> list[str]:
        """The paths of the layers that a configuration gives a low-rank update."""
        if config.lists_paths:
            return list(config.scales)
        chosen = config.decoder_layers(self.num_layers)
        parsed = {name: layer_and_key(name) for name in self.layers}
        return [
            name for name, (layer, key) in parsed.items() if layer in chosen and (not config.keys or key in config.keys)
        ]

    def check(self, adapter: Adapter) -> None:
        """Refuse an adapter that does not fit the model. No weight is read.

        Raises:
            AdapterError: when it does not fit, naming every bad tensor.
        """
        paths = self._changed_paths(adapter.config)
        modules = dict(self.model.named_modules())
        listed = adapter.config.lists_paths
        bad = []
        for name, update in adapter.updates.items():
            shapes = {part: array.shape for part, array in update.parts.items()}
            if name not in (modules if listed else self.layers):
                bad.append(f"{name}: the model has no such {'module' if listed else 'linear layer'}")
            elif name not in (*paths, *adapter.config.modules):
                bad.append(f"{name}: not in the layers and keys of the adapter's configuration")
            elif shapes != (expected := _shapes_for(unwrap(modules[name]), update, adapter.config)):
                bad.append(f"{name}: {_format_shapes(shapes)} instead of {_format_shapes(expected)}")
            elif isinstance(update, TrainedTokenRows) and not _has_rows(unwrap(modules[name]), update):
                bad.append(f"{name}: rows that it has not among {update.ids.tolist()}")
        bad += [f"{name}: missing" for name in paths if name not in adapter.layers]
        bad += [f"{name}: changed in two ways" for name in adapter.layers.keys() & adapter.modules.keys()]
        if bad:
            raise AdapterError(
                "the adapter does not fit the model",
                got="; ".join(bad),
                fix="use the base model that the adapter was trained on",
            )

    def _wrap_modules(self, adapter: Adapter) -> None:
        """Wrap the modules that an adapter changes, where they are not wrapped yet."""
        modules = dict(self.model.named_modules())
        new = {name: wrap(modules[name]) for name in adapter.updates.keys() - self.layers.keys()}
        if new:
            self.model.update_modules(tree_unflatten(list(new.items())))
            self.other_layers |= new


def layer_and_key(path: str) -> tuple[int, str]:
    """The number of a decoder layer and a name inside it: ``model.layers.3.mlp.up_proj`` is (3, "mlp.up_proj")."""
    layer, key = path.removeprefix(WRAPPED).removeprefix("model.layers.").split(".", 1)
    return int(layer), key


def _shapes_for(
    module: nn.Module, update: LoRAUpdate | ModuleWeights, config: AdapterConfig
) -> dict[str, tuple[int, ...]]:
    """The shapes that an update's parts must have; none where its kind does not go with the module."""
    if config.lists_paths or not isinstance(module, Linear):
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
    """Wrap the linear layers of all decoder layers, and give them by path. Those that are wrapped already stay."""
    layers = dict(model.named_modules())
    layers = {name: layer for name, layer in layers.items() if name.removeprefix(WRAPPED).startswith("model.layers.")}
    wrapped = {name: module for name, module in layers.items() if isinstance(module, LoRALinear)}
    inner = {f"{name}.linear" for name in wrapped}
    new = {
        name: LoRALinear(module) for name, module in layers.items() if name not in inner and isinstance(module, Linear)
    }
    if new:
        model.update_modules(tree_unflatten(list(new.items())))
    wrapped.update(new)
    if not wrapped:
        raise AdapterError(
            "the model has no linear layers under model.layers",
            got=type(model).__name__,
            fix="use a model of a supported kind",
        )
    return dict(sorted(wrapped.items()))
