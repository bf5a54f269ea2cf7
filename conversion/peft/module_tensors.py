"""The tensors of a PEFT adapter, grouped by module. Each module must be complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from dualtune_mlx.conversion.peft.names import parse_key
from dualtune_mlx.errors import ConversionError

LOW_RANK, ROWS, WEIGHT = frozenset("ab"), frozenset({"rows"}), frozenset({"weight"})
COMPLETE = (LOW_RANK, LOW_RANK | {"m"}, ROWS, WEIGHT, WEIGHT | {"bias"})
DIMENSIONS = {"a": 2, "b": 2, "m": 1, "rows": 2}


@dataclass(frozen=True)
class ModuleTensors:
    """The tensors of one module."""

    tensors: Mapping[str, mx.array]
    """By part: "a", "b", "m", "rows", "weight" or "bias"."""
    is_embedding: bool
    """Whether PEFT's names say that the module is an embedding."""

    @property
    def is_low_rank(self) -> bool:
        """Whether they are a low-rank update."""
        return "a" in self.tensors

    @property
    def rank(self) -> int:
        """The rank; of a stack of experts, the rank times their number."""
        return self.tensors["a"].shape[0]


def group_by_module(tensors: Mapping[str, mx.array], where: object) -> dict[str, ModuleTensors]:
    """Group tensors by their module's path, which is PEFT's.

    Raises:
        ConversionError: when a key is unknown, a part is there twice or without its counterpart, or matrices do not go
            together.
    """
    found: dict[tuple[str, bool], dict[str, mx.array]] = {}
    unknown = []
    for name, tensor in tensors.items():
        key = parse_key(name)
        if key is None:
            unknown.append(name)
            continue
        place = found.setdefault((key.module, key.is_embedding), {})
        if key.part in place:
            raise ConversionError(
                "a module has a tensor twice",
                where=where,
                got=name,
                fix="save one adapter a folder: with two in it, there are two of each tensor",
            )
        place[key.part] = tensor
    odd = [f"{name}: not known" for name in sorted(unknown)]
    incomplete = {place: parts for place, parts in found.items() if parts.keys() not in COMPLETE}
    odd += [f"{module}: {', '.join(sorted(parts))} alone" for (module, _), parts in incomplete.items()]
    odd += [f"{module}: both kinds of A and B" for module, embedding in found if embedding and (module, False) in found]
    if odd:
        raise ConversionError(
            "an adapter has tensors without their counterparts, or unknown ones",
            where=where,
            got="; ".join(odd),
            expected="lora_A and lora_B of each module, with lora_magnitude_vector for DoRA, rows, or whole weights",
            fix="save it again with PEFT; update PEFT, if it is newer than 0.21",
        )
    modules = {module: ModuleTensors(parts, embedding) for (module, embedding), parts in found.items()}
    _check_shapes(modules, where)
    return modules


def _check_shapes(modules: Mapping[str, ModuleTensors], where: object) -> None:
    bad = []
    for module, parts in modules.items():
        shapes = {part: tensor.shape for part, tensor in parts.tensors.items()}
        wrong = [part for part, shape in shapes.items() if len(shape) != DIMENSIONS.get(part, len(shape)) or 0 in shape]
        if not wrong and parts.is_low_rank:
            fits = shapes["b"][1] == parts.rank and shapes.get("m", shapes["b"][:1]) == shapes["b"][:1]
            wrong = [] if fits else list(shapes)
        bad += [f"{module}: " + ", ".join(f"{part} {shapes[part]}" for part in wrong)] if wrong else []
    if bad:
        raise ConversionError(
            "an adapter's tensors do not go together",
            where=where,
            got="; ".join(bad),
            expected="lora_A (rank, inputs), lora_B (outputs, rank), lora_magnitude_vector (outputs,)",
        )
