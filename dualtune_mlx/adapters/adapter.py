"""An adapter and its files: mlx-lm's format plus what is needed to apply it exactly.

``adapters.safetensors`` holds ``<layer path>.lora_a`` (inputs, rank), ``.lora_b`` (rank, outputs) and for DoRA
``.m`` (outputs,); of experts ``.lora_a`` (experts, rank, inputs) and ``.lora_b`` (experts, outputs, rank); of modules
with weights of their own ``.weight`` and ``.bias``, or ``.rows`` and ``.row_ids``. ``adapter_config.json`` is mlx-lm's,
with our fields under ``dualtune``. An adapter with ``activation="all"`` and one rank and scale therefore loads in
mlx-lm as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from dualtune_mlx.adapters.config import PARTS, AdapterConfig
from dualtune_mlx.adapters.lora import LoRAUpdate
from dualtune_mlx.adapters.module_weights import ModuleWeights, module_weights_of
from dualtune_mlx.errors import AdapterError
from dualtune_mlx.files import atomic_folder

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
SUFFIXES = {"a": "lora_a", "b": "lora_b", "m": "m"}
"""The name of each part's tensor after its layer's path."""
MODULE_TENSORS = ({"weight"}, {"weight", "bias"}, {"rows", "row_ids"})
"""The names that the tensors of a module with weights or rows of its own have together."""


@dataclass(frozen=True)
class Adapter:
    """A low-rank update for some of a model's layers, known by the hash of its content.

    ``whole`` are the modules, by path, that bring weights or rows of their own.
    """

    config: AdapterConfig
    layers: Mapping[str, LoRAUpdate]
    content_hash: str
    whole: Mapping[str, ModuleWeights] = field(default_factory=dict)

    @classmethod
    def from_layers(
        cls, config: AdapterConfig, layers: Mapping[str, LoRAUpdate], whole: Mapping[str, ModuleWeights] | None = None
    ) -> Adapter:
        digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
        updates: dict[str, LoRAUpdate | ModuleWeights] = {**layers, **(whole or {})}
        for name in sorted(updates):
            for array in updates[name].parts.values():
                digest.update(f"{name}{array.shape}{array.dtype}".encode())
                digest.update(memoryview(array.astype(mx.float32)))  # type: ignore[arg-type]
        return cls(config, dict(layers), digest.hexdigest(), dict(whole or {}))

    @property
    def updates(self) -> dict[str, LoRAUpdate | ModuleWeights]:
        """All that it changes, by path."""
        return {**self.layers, **self.whole}

    @property
    def nbytes(self) -> int:
        return sum(update.nbytes for update in self.updates.values())

    @classmethod
    def load(cls, folder: str | Path) -> Adapter:
        """Read an adapter folder.

        Raises:
            AdapterError: when a file is missing or damaged, or a tensor is orphaned or not finite.
        """
        folder = Path(folder)
        try:
            config_json = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AdapterError("an adapter's configuration cannot be read", where=folder / CONFIG, got=error) from error
        if not isinstance(config_json, dict):
            raise AdapterError("an adapter's configuration is not a JSON object", where=folder / CONFIG)
        config = AdapterConfig.from_dict(config_json, folder / CONFIG)
        tensors = _read_tensors(folder / WEIGHTS)
        whole = {name: _take_module_weights(name, tensors, folder / WEIGHTS) for name in config.whole}
        return cls.from_layers(config, _read_updates(tensors, config, folder / WEIGHTS, bool(whole)), whole)

    def save(self, folder: str | Path) -> None:
        """Write the adapter; an older one in the same folder is replaced."""
        tensors = {
            f"{name}.{SUFFIXES.get(part, part)}": array
            for name, update in self.updates.items()
            for part, array in update.parts.items()
        }
        with atomic_folder(Path(folder), replace=True) as temporary:
            mx.save_safetensors(str(temporary / WEIGHTS), tensors, metadata={"format": "mlx"})
            (temporary / CONFIG).write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")


def _read_tensors(path: Path) -> dict[str, mx.array]:
    """The file's tensors, after safetensors has checked its header."""
    try:
        with safe_open(path, framework="numpy"):
            pass
        tensors: dict[str, mx.array] = mx.load(str(path))  # type: ignore[assignment]
        mx.eval(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AdapterError("an adapter's weights cannot be read", where=path, got=error) from error
    return tensors


def _take_module_weights(name: str, tensors: dict[str, mx.array], where: Path) -> ModuleWeights:
    """A module's own weights or rows, taken out of the tensors."""
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
    return module_weights_of(found)


def _read_updates(
    tensors: Mapping[str, mx.array], config: AdapterConfig, where: Path, may_be_empty: bool
) -> dict[str, LoRAUpdate]:
    """Every layer's update, once its tensors are complete, of the right number of dimensions and finite."""
    suffixes = {part: SUFFIXES[part] for part in PARTS[config.kind]}
    matrices = (2, 3) if config.listed else (2,)
    split = [key.rpartition(".") for key in tensors]
    names = sorted({name for name, dot, suffix in split if dot and suffix in SUFFIXES.values()})
    wanted = {f"{name}.{suffix}" for name in names for suffix in suffixes.values()}
    odd = [f"{key}: missing" for key in sorted(wanted - tensors.keys())]
    odd += [f"{key}: unexpected" for key in sorted(tensors.keys() - wanted)]
    if odd or not (tensors or may_be_empty):
        raise AdapterError(
            "an adapter's tensors are not those of its kind",
            where=where,
            got="; ".join(odd) or "no tensors",
            expected=f"{', '.join(suffixes.values())} of each layer ({config.kind})",
        )
    broken = [key for key, value in tensors.items() if not _is_sound(value, (1,) if key.endswith(".m") else matrices)]
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


def _is_sound(tensor: mx.array, dimensions: Sequence[int]) -> bool:
    return tensor.ndim in dimensions and bool(mx.isfinite(tensor).all().item())
