"""An adapter and its files: mlx-lm's format plus what is needed to apply it exactly.

``adapters.safetensors`` holds ``<layer path>.lora_a`` (inputs, rank) and ``.lora_b`` (rank, outputs);
``adapter_config.json`` is mlx-lm's, with our fields under ``dualtune``. An adapter with
``activation="all"`` therefore loads in mlx-lm as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from dualtune_mlx.adapters.low_rank import LowRank
from dualtune_mlx.errors import AdapterError
from dualtune_mlx.files import new_folder
from dualtune_mlx.prompts.stream import ACTIVATIONS

FORMAT = 1
WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter is: rank, scale, where it begins to act, and how many of the last layers it adapts (0: all)."""

    rank: int
    scale: float
    activation: str
    num_layers: int
    keys: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "fine_tune_type": "lora",
            "num_layers": self.num_layers,
            "lora_parameters": {"rank": self.rank, "scale": self.scale, "dropout": 0.0, "keys": list(self.keys)},
            "dualtune": {"format": FORMAT, "activation": self.activation},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: object) -> AdapterConfig:
        """Read mlx-lm's configuration; without our fields the adapter acts on every token.

        Raises:
            AdapterError: for another kind of adapter, a newer format, or a missing field.
        """
        ours = value.get("dualtune", {"format": FORMAT, "activation": "all"})
        ours = ours if isinstance(ours, Mapping) else {}
        if ours.get("format") != FORMAT or value.get("fine_tune_type", "lora") != "lora":
            raise AdapterError(
                "this adapter is of a kind or format that is not supported",
                where=where,
                got=f"{value.get('fine_tune_type')}, format {ours.get('format')}",
                expected=f"lora, format {FORMAT}",
            )
        if ours.get("activation", "all") not in ACTIVATIONS:
            raise AdapterError(
                "an adapter's activation is unknown",
                where=where,
                got=ours["activation"],
                expected=", ".join(ACTIVATIONS),
            )
        try:
            lora = value["lora_parameters"]
            return cls(
                rank=int(lora["rank"]),
                scale=float(lora["scale"]),
                activation=str(ours["activation"]),
                num_layers=int(value["num_layers"]),
                keys=tuple(lora.get("keys") or ()),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AdapterError("an adapter's configuration lacks a field", where=where, got=repr(error)) from error


@dataclass(frozen=True)
class Adapter:
    """A low-rank update for some of a model's layers, known by the hash of its content."""

    config: AdapterConfig
    layers: Mapping[str, LowRank]
    content: str

    @classmethod
    def from_layers(cls, config: AdapterConfig, layers: Mapping[str, LowRank]) -> Adapter:
        digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
        for name in sorted(layers):
            for array in (layers[name].a, layers[name].b):
                digest.update(f"{name}{array.shape}{array.dtype}".encode())
                digest.update(memoryview(array.astype(mx.float32)))  # type: ignore[arg-type]
        return cls(config, dict(layers), digest.hexdigest())

    @property
    def nbytes(self) -> int:
        return sum(update.a.nbytes + update.b.nbytes for update in self.layers.values())

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
        return cls.from_layers(config, _pairs(_tensors(folder / WEIGHTS), config.scale, folder / WEIGHTS))

    def save(self, folder: str | Path) -> None:
        """Write the adapter; an older one in the same folder is replaced."""
        tensors = {}
        for name, update in self.layers.items():
            tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = update.a, update.b
        with new_folder(Path(folder), replace=True) as temporary:
            mx.save_safetensors(str(temporary / WEIGHTS), tensors, metadata={"format": "mlx"})
            (temporary / CONFIG).write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")


def _tensors(path: Path) -> dict[str, mx.array]:
    """The file's tensors, after safetensors has checked its header."""
    try:
        with safe_open(path, framework="numpy"):
            pass
        tensors: dict[str, mx.array] = mx.load(str(path))  # type: ignore[assignment]
        mx.eval(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AdapterError("an adapter's weights cannot be read", where=path, got=error) from error
    return tensors


def _pairs(tensors: Mapping[str, mx.array], scale: float, where: Path) -> dict[str, LowRank]:
    names = {key.removesuffix(".lora_a").removesuffix(".lora_b") for key in tensors}
    wanted = {f"{name}.{part}" for name in names for part in ("lora_a", "lora_b")}
    odd = sorted(wanted.symmetric_difference(tensors))
    if odd or not tensors:
        raise AdapterError(
            "an adapter's tensors do not come in pairs of lora_a and lora_b",
            where=where,
            got=", ".join(odd) or "no tensors",
        )
    broken = [key for key, value in tensors.items() if value.ndim != 2 or not mx.isfinite(value).all().item()]
    if broken:
        raise AdapterError("an adapter has tensors that are not finite matrices", where=where, got=", ".join(broken))
    return {name: LowRank(tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"], scale) for name in sorted(names)}
