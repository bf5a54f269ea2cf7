"""An adapter's configuration, ``adapter_config.json``: mlx-lm's format, with our fields under ``dualtune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from dualtune_mlx.errors import AdapterError
from dualtune_mlx.prompts import ACTIVATIONS as POINTS

FORMAT = 1
PARTS = {"lora": ("a", "b"), "dora": ("a", "b", "m")}
"""The arrays of each kind's layers."""
AT_TOKENS = "tokens"
ACTIVATIONS = (*POINTS, AT_TOKENS)


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter is: its rank and scale, where it begins to act, and which layers it changes.

    One rank, one scale, ``layers`` and ``keys`` describe most adapters. Where they do not (ranks or scales differ, or
    other modules are changed), ``rank`` and ``scale`` are 0, and ``scales`` and ``modules`` list what is changed.
    """

    rank: int
    """The rank of every layer's update; 0 where the paths are listed."""
    scale: float
    """By which A B is multiplied; 0 where the paths are listed."""
    activation: str
    """Where it begins to act: one of ``ACTIVATIONS``."""
    layers: tuple[int, int | None]
    """A slice of the decoder layers: (-16, None) for the last 16, (0, 8) for the first 8, (0, None) for all.

    The model's number of layers need not be known for it.
    """
    keys: tuple[str, ...]
    """Names of linear layers inside a decoder layer; none means all, as in mlx-lm."""
    kind: str = "lora"
    """Either "lora" or "dora"."""
    dropout: float = 0.0
    """What training used."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Where the paths are listed: the scale of each layer with a low-rank update. Its rank is that of its tensors."""
    modules: tuple[str, ...] = ()
    """The paths of the modules that have weights or rows of their own; ``whole`` in the file."""
    tokens: tuple[int, ...] = ()
    """The invocation of the activation "tokens", which is PEFT's.

    The adapter acts from the last place on where these token ids stand, and nowhere if they do not.
    """

    @property
    def lists_paths(self) -> bool:
        """Whether it lists what it changes, path by path."""
        return bool(self.scales or self.modules)

    def scale_of(self, name: str) -> float:
        """The scale of the layer at a path."""
        return self.scales.get(name, self.scale)

    def decoder_layers(self, num_layers: int) -> range:
        """The decoder layers that it changes in a model of ``num_layers``."""
        return range(num_layers)[slice(*self.layers)]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``adapter_config.json``: mlx-lm's fields and ours.

        mlx-lm can name only the last layers. An adapter that does not reach the last layer tells mlx-lm "all" (-1);
        the layers that mlx-lm then adapts without finding tensors for them change nothing. An adapter that lists
        paths has no rank for mlx-lm, which therefore refuses it.
        """
        start, stop = self.layers
        ours: dict[str, Any] = {"format": FORMAT, "activation": self.activation}
        ours |= {"scales": dict(self.scales)} if self.scales else {}
        ours |= {"whole": list(self.modules)} if self.modules else {}
        ours |= {"tokens": list(self.tokens)} if self.tokens else {}
        return {
            "fine_tune_type": self.kind,
            "num_layers": -start if stop is None and start < 0 else -1,
            "lora_parameters": {
                "rank": self.rank or None,
                "scale": self.scale if self.rank else None,
                "dropout": self.dropout,
                "keys": list(self.keys) or None,
            },
            "dualtune": ours if stop is None else {**ours, "layers": [start, stop]},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], where: object) -> AdapterConfig:
        """Read the content of ``adapter_config.json``. Without our fields the adapter acts on every token.

        Raises:
            AdapterError: for another kind of adapter, a newer format, or a missing or impossible field.
        """
        _refuse_peft(value, where)
        ours = value.get("dualtune", {"format": FORMAT, "activation": "all"})
        ours = ours if isinstance(ours, Mapping) else {}
        kind = value.get("fine_tune_type", "lora")
        if ours.get("format") != FORMAT or kind not in tuple(PARTS):
            raise AdapterError(
                "this adapter is of a kind or format that is not supported",
                where=where,
                got=f"{kind}, format {ours.get('format')}",
                expected=f"{' or '.join(PARTS)}, format {FORMAT}",
                fix="make a model of whole weights with mlx_lm.fuse, and give that as base" if kind == "full" else None,
            )
        if ours.get("activation", "all") not in ACTIVATIONS:
            raise AdapterError(
                "an adapter's activation is unknown",
                where=where,
                got=ours["activation"],
                expected=", ".join(ACTIVATIONS),
            )
        if (ours.get("activation") == AT_TOKENS) != bool(ours.get("tokens")):
            raise AdapterError(
                "an adapter's activation and its invocation tokens do not go together",
                where=where,
                got=f"{ours.get('activation')}, tokens {ours.get('tokens')}",
                expected=f"token ids with the activation {AT_TOKENS!r}, and only there",
            )
        try:
            lora = value["lora_parameters"]
            scales = {str(name): _parse_number(scale) for name, scale in ours.get("scales", {}).items()}
            modules = tuple(map(str, ours.get("whole", ())))
            lists_paths = bool(scales or modules)
            return cls(
                rank=0 if lists_paths else int(lora["rank"]),
                scale=0.0 if lists_paths else _parse_number(lora["scale"]),
                activation=str(ours["activation"]),
                layers=_parse_range(*ours["layers"]) if "layers" in ours else _parse_last(int(value["num_layers"])),
                keys=tuple(lora.get("keys") or ()),
                kind=kind,
                dropout=_parse_number(lora.get("dropout", 0.0)),
                scales=scales,
                modules=modules,
                tokens=tuple(map(int, ours.get("tokens", ()))),
            )
        except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise AdapterError(
                "an adapter's configuration lacks a field, or has one of another form",
                where=where,
                got=repr(error),
                fix="restore adapter_config.json, or train the adapter again",
            ) from error


def _refuse_peft(value: Mapping[str, Any], where: object) -> None:
    """Refuse a PEFT adapter's configuration, which has a file of the same name."""
    if "peft_type" in value:
        raise AdapterError(
            "this is an adapter of PEFT's",
            where=where,
            got=f"peft_type {value['peft_type']}",
            expected="an adapter of dualtune's or mlx-lm's",
            fix="convert it: dualtune convert from-peft ADAPTER NEW_FOLDER",
        )


def layer_slice(layers: range, num_layers: int) -> tuple[int, int | None]:
    """A range of decoder layers as ``AdapterConfig.layers`` has it: counted from the end where it reaches the end."""
    return (-len(layers), None) if layers.stop == num_layers else (layers.start, layers.stop)


def _parse_last(num_layers: int) -> tuple[int, None]:
    """mlx-lm's ``num_layers``: that many of the last layers, and all where it is 0 or less."""
    return (-max(num_layers, 0), None)


def _parse_range(start: int, stop: int) -> tuple[int, int]:
    if not 0 <= int(start) < int(stop):
        raise ValueError(f"layers {start} to {stop}")
    return int(start), int(stop)


def _parse_number(value: Any) -> float:
    number = float(value)
    if not isfinite(number):  # Python's JSON has NaN
        raise ValueError(f"the number {number}")
    return number


def invocation_start(tokens: Sequence[int], invocation: Sequence[int]) -> int:
    """Where an adapter of the activation "tokens" begins to act: the first position of the invocation's last place.

    Without the invocation it is ``len(tokens)``: the base alone acts, as in PEFT.
    """
    ids, wanted = list(tokens), list(invocation)
    starts = range(len(ids) - len(wanted), -1, -1)
    return next((start for start in starts if ids[start : start + len(wanted)] == wanted), len(ids))
