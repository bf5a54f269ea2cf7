"""The weights: which tensor of a GGUF file becomes which weight of mlx-lm's model, and how they are written."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from dualtune_mlx.conversion.gguf.architecture import Architecture
from dualtune_mlx.conversion.gguf.file import GGUFFile
from dualtune_mlx.conversion.gguf.rope import FACTORS
from dualtune_mlx.conversion.gguf.types import type_name
from dualtune_mlx.errors import ConversionError, UsageError

SHARD_BYTES = 5 * 2**30
"""The most bytes of a weight file, as mlx-lm writes them; also what is in memory at a time."""
BITS, GROUP_SIZES = (4, 8), (32, 64, 128)


@dataclass(frozen=True)
class Quantization:
    """MLX's affine quantisation.

    Raises:
        UsageError: when MLX has no such quantisation.
    """

    bits: int
    """Bits per weight."""
    group_size: int = 64
    """How many weights share a scale and a bias."""

    def __post_init__(self) -> None:
        if self.bits not in BITS or self.group_size not in GROUP_SIZES:
            raise UsageError(
                "there is no such quantisation",
                got=f"{self.bits} bits in groups of {self.group_size}",
                expected=f"{' or '.join(map(str, BITS))} bits in groups of {', '.join(map(str, GROUP_SIZES))}",
            )

    def to_config(self) -> dict[str, Any]:
        """The entries of ``config.json``, as mlx-lm writes them."""
        entry = {"group_size": self.group_size, "bits": self.bits, "mode": "affine"}
        return {"quantization": entry, "quantization_config": entry}


@dataclass(frozen=True)
class WeightPlan:
    """What becomes of a tensor."""

    source: str
    """Its name in the GGUF file."""
    target: str
    """mlx-lm's name for it."""
    shape: tuple[int, ...]
    """Its shape, row-major."""
    stored: str
    """Its type in the GGUF file."""
    dtype: mx.Dtype
    """Its type in the model; of a quantised weight, the type of its scales."""
    quantization: Quantization | None
    """How it is quantised, if it is."""

    @property
    def becomes(self) -> str:
        """The type that it is written in, as a text: ``float32``, or bits and group size (``4 bits : 64``)."""
        if self.quantization:
            return f"{self.quantization.bits} bits : {self.quantization.group_size}"
        return str(self.dtype).rpartition(".")[2]

    @property
    def nbytes(self) -> int:
        """The bytes that it will take."""
        values = int(np.prod(self.shape, dtype=object))
        if self.quantization is None:
            return values * self.dtype.size
        groups = values // self.quantization.group_size
        return values * self.quantization.bits // 8 + 2 * groups * self.dtype.size


def plan_weights(
    gguf: GGUFFile,
    architecture: Architecture,
    config: dict[str, Any],
    dtype: mx.Dtype,
    quantization: Quantization | None,
) -> list[WeightPlan]:
    """Plan what becomes of each tensor, in the file's order. The weights must be exactly those of mlx-lm's model.

    Raises:
        ConversionError: when a tensor is missing, has no place in the model, or has another shape.
        UsageError: when no weight can be quantised like this.
    """
    names = architecture.tensor_names(config["num_hidden_layers"])
    model = _empty_model(gguf, config, [names[name] for name in gguf.tensors if name in names])
    parameters: dict[str, mx.array] = tree_flatten(model.parameters(), destination={})  # type: ignore[assignment]
    shapes = {name: array.shape for name, array in parameters.items()}
    unknown = next((n for n in gguf.tensors if n != FACTORS and names.get(n) not in shapes), None)
    if unknown is not None:
        where = f"{gguf.path}: {unknown}"
        raise ConversionError(
            "the GGUF file holds a tensor that has no place in the model",
            where=where,
            fix="download the file again, or use another one of the same model",
        )
    missing = next((n for n, target in names.items() if target in shapes and n not in gguf.tensors), None)
    if missing is not None:
        raise ConversionError("the GGUF file lacks a tensor", where=gguf.path, expected=missing)
    quantized = _quantized_modules(model, quantization)
    if quantization and not quantized:
        raise UsageError(
            "none of the model's weights can be quantised like this",
            where=gguf.path,
            got=f"groups of {quantization.group_size}",
            expected="a divisor of the rows' length",
        )
    weights = []
    for name, info in gguf.tensors.items():
        if name == FACTORS:
            continue
        target = names[name]
        if info.shape != shapes[target]:
            raise ConversionError(
                "a GGUF tensor has not the shape that its model's fields say",
                where=f"{gguf.path}: {name}",
                got=info.shape,
                expected=shapes[target],
            )
        module, _, part = target.rpartition(".")
        quantize = part == "weight" and module in quantized
        stored = type_name(info.type_id)
        weights.append(WeightPlan(name, target, info.shape, stored, dtype, quantization if quantize else None))
    return weights


def _empty_model(gguf: GGUFFile, config: dict[str, Any], names: Sequence[str]) -> nn.Module:
    """mlx-lm's model of this configuration. Nothing is computed; ``names`` are the weights that it will be given."""
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    try:
        model: nn.Module = module.Model(module.ModelArgs.from_dict(config))
    except (OverflowError, ValueError) as error:
        raise ConversionError(
            "the GGUF file's fields give no model",
            where=gguf.path,
            got=f"{error}, from {config}",
            fix="download the file again, or use another one of the same model",
        ) from error
    model.sanitize(dict.fromkeys(names))  # ties Gemma's head where there is none
    return model


def _quantized_modules(model: nn.Module, quantization: Quantization | None) -> set[str]:
    """The modules that mlx-lm's ``quantize_model`` would quantise."""
    if quantization is None:
        return set()
    return {
        path
        for path, module in model.named_modules()
        if hasattr(module, "to_quantized") and module.weight.shape[-1] % quantization.group_size == 0
    }


def split_into_shards(weights: Sequence[WeightPlan], limit: int) -> list[list[WeightPlan]]:
    """Split the weights, in their order, into files of at most ``limit`` bytes. A larger weight has a file alone."""
    files: list[list[WeightPlan]] = [[]]
    room = limit
    for weight in weights:
        if files[-1] and weight.nbytes > room:
            files.append([])
            room = limit
        files[-1].append(weight)
        room -= weight.nbytes
    return files


def write_weights(
    gguf: GGUFFile, architecture: Architecture, config: Mapping[str, Any], weights: Sequence[WeightPlan], folder: Path
) -> Iterator[WeightPlan]:
    """Write the weight files; yields each weight when it is converted.

    Raises:
        ConversionError: when a value is not a finite number in its new type.
    """
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    files = split_into_shards(weights, SHARD_BYTES)
    index: dict[str, str] = {}
    for number, part in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors" if len(files) > 1 else "model.safetensors"
        arrays: dict[str, mx.array] = {}
        for weight in part:
            arrays |= _convert(gguf, architecture, heads, weight)
            yield weight
        with (folder / name).open("wb") as file:
            mx.save_safetensors(file, arrays, metadata={"format": "mlx"})
        index |= dict.fromkeys(arrays, name)
    if len(files) > 1:
        total = {"total_size": sum(weight.nbytes for weight in weights)}
        text = json.dumps({"metadata": total, "weight_map": index}, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text)


def _convert(
    gguf: GGUFFile, architecture: Architecture, heads: Mapping[str, int], weight: WeightPlan
) -> dict[str, mx.array]:
    tensor = gguf.tensor(weight.source)
    module = weight.target.rpartition(".")[0]
    name = module.rpartition(".")[2]
    if architecture.interleaves_rotary and name in heads:
        tensor = _split_rotary_halves(tensor, heads[name])
    if name.endswith("norm"):
        tensor = tensor - np.float32(architecture.norm_offset)
    array = mx.array(tensor).astype(weight.dtype)
    if not mx.isfinite(array).all().item():
        raise ConversionError(
            "a GGUF tensor holds values that are not finite numbers",
            where=f"{gguf.path}: {weight.source}",
            got=f"{weight.stored}, as {str(weight.dtype).rpartition('.')[2]}",
            fix="download the file again, or choose another --dtype",
        )
    if weight.quantization is None:
        return {weight.target: array}
    parts = mx.quantize(array, weight.quantization.group_size, weight.quantization.bits)
    mx.eval(parts)  # frees the unquantised values
    return {f"{module}.{part}": value for part, value in zip(("weight", "scales", "biases"), parts, strict=True)}


def _split_rotary_halves(tensor: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of a head's two rotary halves in the rows of q and k."""
    interleaved = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return interleaved.swapaxes(1, 2).reshape(tensor.shape)
