"""An adapter and its files: mlx-lm's format, and what is needed to apply it exactly.

``adapters.safetensors`` holds these tensors, each after the path of its layer or module:

* of a linear layer ``.lora_a`` (inputs, rank) and ``.lora_b`` (rank, outputs); with DoRA also ``.m`` (outputs,)
* of experts ``.lora_a`` (experts, rank, inputs) and ``.lora_b`` (experts, outputs, rank)
* of a module with weights of its own ``.weight`` and ``.bias``, or ``.rows`` and ``.row_ids``

``adapter_config.json`` is mlx-lm's, with our fields under ``dualtune``. Therefore an adapter that is always active, and
has one rank and one scale, loads in mlx-lm as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from dualtune_mlx.adapters.config import PARTS, AdapterConfig
from dualtune_mlx.adapters.lora import LoRAUpdate
from dualtune_mlx.adapters.module_weights import ModuleWeights, to_module_weights
from dualtune_mlx.errors import AdapterError
from dualtune_mlx.files import atomic_folder, require_file, whole_folder

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
SUFFIXES = {"a": "lora_a", "b": "lora_b", "m": "m"}
"""The name of each part's tensor, after its layer's path."""
EMBEDDING = "embed_tokens"
DECODER = re.compile(r"(?:language_model\.)?model\.layers\.\d+\.(.+)")
"""The path of a layer inside a decoder layer."""
MODULE_TENSORS = ({"weight"}, {"weight", "bias"}, {"rows", "row_ids"})
"""Which tensors a module with weights of its own has together."""


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates of some of a model's layers. It is identified by the hash of its content."""

    config: AdapterConfig
    """Rank, scale, activation, and which layers it changes."""
    layers: Mapping[str, LoRAUpdate]
    """The low-rank updates by layer path."""
    content_hash: str
    """SHA-256 of the configuration and of all tensors."""
    modules: Mapping[str, ModuleWeights] = field(default_factory=dict)
    """The whole weights and token rows by module path."""

    @classmethod
    def from_layers(
        cls,
        config: AdapterConfig,
        layers: Mapping[str, LoRAUpdate],
        modules: Mapping[str, ModuleWeights] | None = None,
    ) -> Adapter:
        """Make an adapter, and hash its content."""
        digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
        updates: dict[str, LoRAUpdate | ModuleWeights] = {**layers, **(modules or {})}
        for name in sorted(updates):
            for array in updates[name].parts.values():
                digest.update(f"{name}{array.shape}{array.dtype}".encode())
                digest.update(memoryview(array.astype(mx.float32)))  # type: ignore[arg-type]
        return cls(config, dict(layers), digest.hexdigest(), dict(modules or {}))

    @property
    def updates(self) -> dict[str, LoRAUpdate | ModuleWeights]:
        """Everything that it changes, by path."""
        return {**self.layers, **self.modules}

    @property
    def nbytes(self) -> int:
        return sum(update.nbytes for update in self.updates.values())

    @classmethod
    def load(cls, folder: str | Path) -> Adapter:
        """Read an adapter folder.

        Raises:
            AdapterError: when a file is missing or damaged, or a tensor is orphaned or not finite.
        """
        folder = whole_folder(Path(folder))
        try:
            config_json = json.loads(require_file(folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise AdapterError(
                "an adapter's configuration cannot be read",
                where=folder / CONFIG,
                got=error,
                fix="restore adapter_config.json, or train the adapter again",
            ) from error
        if not isinstance(config_json, dict):
            raise AdapterError(
                "an adapter's configuration is not a JSON object",
                where=folder / CONFIG,
                fix="restore adapter_config.json, or train the adapter again",
            )
        config = AdapterConfig.from_dict(config_json, folder / CONFIG)
        tensors = _read_tensors(folder / WEIGHTS)
        if "dualtune" not in config_json:
            config = _list_paths(config, tensors, folder)
        modules = {name: _take_module_weights(name, tensors, folder / WEIGHTS) for name in config.modules}
        return cls.from_layers(config, _to_updates(tensors, config, folder / WEIGHTS), modules)

    def astype(self, dtype: mx.Dtype) -> Adapter:
        """The adapter with its low-rank updates in another floating-point type."""
        layers = {
            name: LoRAUpdate.of({part: array.astype(dtype) for part, array in update.parts.items()}, update.scale)
            for name, update in self.layers.items()
        }
        return Adapter.from_layers(self.config, layers, self.modules)

    def save(self, folder: str | Path) -> None:
        """Write the adapter into a folder. An adapter that is there already is replaced."""
        tensors = {
            f"{name}.{SUFFIXES.get(part, part)}": array
            for name, update in self.updates.items()
            for part, array in update.parts.items()
        }
        with atomic_folder(Path(folder), replace=True) as temporary:
            with (temporary / WEIGHTS).open("wb") as file:  # Python's file says why it cannot be written
                mx.save_safetensors(file, tensors, metadata={"format": "mlx"})
            (temporary / CONFIG).write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")


def _read_tensors(path: Path) -> dict[str, mx.array]:
    """Read a file's tensors, after safetensors has checked its header."""
    try:
        with safe_open(require_file(path), framework="numpy"):
            pass
        tensors: dict[str, mx.array] = mx.load(str(path))  # type: ignore[assignment]
        mx.eval(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AdapterError(
            "an adapter's weights cannot be read",
            where=path,
            got=error,
            fix="restore adapters.safetensors, or train the adapter again",
        ) from error
    return tensors


def _list_paths(config: AdapterConfig, tensors: Mapping[str, mx.array], where: Path) -> AdapterConfig:
    """mlx-lm's keys may name modules outside of the decoder layers too, and experts. Then the paths are listed."""
    paths = {key.rpartition(".")[0] for key in tensors}
    embeddings = sorted(path for path in paths if path.endswith(EMBEDDING))
    if embeddings:
        raise AdapterError(
            "mlx-lm's update of an embedding acts in a head that shares it too, which it does not do here",
            where=where,
            got=", ".join(embeddings),
            fix=f"train the adapter without {EMBEDDING} among its keys",
        )
    inside = [match[1] for match in map(DECODER.fullmatch, paths) if match]
    plain = len(inside) == len(paths) and all(not config.keys or key in config.keys for key in inside)
    if plain and all(array.ndim < 3 for array in tensors.values()):
        return config
    scales = dict.fromkeys(sorted(paths), config.scale)
    return replace(config, rank=0, scale=0.0, layers=(0, None), keys=(), scales=scales)


def _take_module_weights(name: str, tensors: dict[str, mx.array], where: Path) -> ModuleWeights:
    """Take a module's own weights or rows out of the tensors."""
    parts = {suffix: tensors.pop(f"{name}.{suffix}", None) for suffix in ("weight", "bias", "rows", "row_ids")}
    found = {suffix: array for suffix, array in parts.items() if array is not None}
    ids = found.get("row_ids")
    if set(found) not in MODULE_TENSORS or not all(mx.isfinite(array).all().item() for array in found.values()):
        raise AdapterError(
            "a module's own weights are not whole",
            where=f"{where}: {name}",
            got=", ".join(found) or "no tensors",
            expected="a finite weight, with or without a bias, or finite rows with row_ids",
        )
    if ids is not None and (ids.ndim != 1 or len(set(ids.tolist())) != found["rows"].shape[0]):  # type: ignore[arg-type]
        raise AdapterError(
            "an adapter's rows do not go with their numbers",
            where=f"{where}: {name}",
            got=f"rows {found['rows'].shape}, row_ids {ids.shape}",
            expected="as many different numbers as rows",
        )
    return to_module_weights(found)


def _to_updates(tensors: Mapping[str, mx.array], config: AdapterConfig, where: Path) -> dict[str, LoRAUpdate]:
    """Check the tensors of all layers, and make each layer's update of them.

    They have to be complete, finite, and of the right number of dimensions.
    """
    suffixes = {part: SUFFIXES[part] for part in PARTS[config.kind]}
    matrices = (2, 3) if config.lists_paths else (2,)
    split = [key.rpartition(".") for key in tensors]
    names = sorted({name for name, dot, suffix in split if dot and suffix in SUFFIXES.values()})
    wanted = {f"{name}.{suffix}" for name in names for suffix in suffixes.values()}
    odd = [f"{key}: missing" for key in sorted(wanted - tensors.keys())]
    odd += [f"{key}: unexpected" for key in sorted(tensors.keys() - wanted)]
    if odd or not (tensors or config.modules):
        raise AdapterError(
            "an adapter's tensors are not those of its kind",
            where=where,
            got="; ".join(odd) or "no tensors",
            expected=f"{', '.join(suffixes.values())} of each layer ({config.kind})",
        )
    broken = [key for key, value in tensors.items() if not _is_valid(value, (1,) if key.endswith(".m") else matrices)]
    if broken:
        raise AdapterError(
            "an adapter has tensors that are not finite or have another number of dimensions",
            where=where,
            got=", ".join(sorted(broken)),
            expected="finite matrices lora_a and lora_b (a stack of them for experts), finite vectors m",
        )
    return {
        name: LoRAUpdate.of(
            {part: tensors[f"{name}.{suffix}"] for part, suffix in suffixes.items()}, config.scale_of(name)
        )
        for name in names
    }


def _is_valid(tensor: mx.array, dimensions: Sequence[int]) -> bool:
    return tensor.ndim in dimensions and bool(mx.isfinite(tensor).all().item())
