"""An adapter's configuration, ``adapter_config.json``: mlx-lm's format, with our fields under ``dualtune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import AdapterError
from dualtune_mlx.prompts.stream import ACTIVATIONS as POINTS

FORMAT = 1
PARTS = {"lora": ("a", "b"), "dora": ("a", "b", "m")}
"""The arrays of each kind's layers."""
AT_TOKENS = "tokens"
ACTIVATIONS = (*POINTS, AT_TOKENS)


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter is: rank, scale, where it begins to act, and which linear layers it changes.

    ``layers`` is a slice of the model's decoder layers, its length being unknown here: (-16, None) for the last 16,
    (0, 8) for the first 8, (0, None) for all. ``keys`` are names inside a decoder layer; none means all of its linear
    layers, as in mlx-lm. ``kind`` is "lora" or "dora"; ``dropout`` is what training used.

    Where that cannot say it (ranks or scales differ, or other modules are changed), ``rank`` and ``scale`` are 0,
    ``scales`` has the path and the scale of each layer with an update, whose rank is its tensors', and ``whole`` the
    paths of the modules that bring weights or rows of their own. ``tokens`` is the invocation of the activation
    "tokens", which is PEFT's: from the last place on where these token ids stand, and nowhere if they do not.
    """

    rank: int
    scale: float
    activation: str
    layers: tuple[int, int | None]
    keys: tuple[str, ...]
    kind: str = "lora"
    dropout: float = 0.0
    scales: Mapping[str, float] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()

    @property
    def listed(self) -> bool:
        """Whether it lists what it changes, path by path."""
        return bool(self.scales or self.whole)

    def scale_of(self, name: str) -> float:
        """The scale of the layer at a path."""
        return self.scales.get(name, self.scale)

    def covered(self, num_layers: int) -> range:
        """The decoder layers it changes in a model of ``num_layers``."""
        return range(num_layers)[slice(*self.layers)]

    def to_dict(self) -> dict[str, Any]:
        """mlx-lm's fields and ours.

        mlx-lm knows the last layers only. Where ours do not reach the last one it is told all (-1), and
        the layers it then adapts without finding tensors for them change nothing. What is listed path by path has
        no rank for mlx-lm, which therefore refuses it.
        """
        start, stop = self.layers
        ours: dict[str, Any] = {"format": FORMAT, "activation": self.activation}
        ours |= {"scales": dict(self.scales)} if self.scales else {}
        ours |= {"whole": list(self.whole)} if self.whole else {}
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
        """Read mlx-lm's configuration; without our fields the adapter acts on every token.

        Raises:
            AdapterError: for another kind of adapter, a newer format, or a missing or impossible field.
        """
        ours = value.get("dualtune", {"format": FORMAT, "activation": "all"})
        ours = ours if isinstance(ours, Mapping) else {}
        kind = value.get("fine_tune_type", "lora")
        if ours.get("format") != FORMAT or kind not in tuple(PARTS):
            raise AdapterError(
                "this adapter is of a kind or format that is not supported",
                where=where,
                got=f"{kind}, format {ours.get('format')}",
                expected=f"{' or '.join(PARTS)}, format {FORMAT}",
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
            scales = {str(name): float(scale) for name, scale in ours.get("scales", {}).items()}
            whole = tuple(map(str, ours.get("whole", ())))
            apart = bool(scales or whole)
            return cls(
                rank=0 if apart else int(lora["rank"]),
                scale=0.0 if apart else float(lora["scale"]),
                activation=str(ours["activation"]),
                layers=_parse_range(*ours["layers"]) if "layers" in ours else _parse_last(int(value["num_layers"])),
                keys=tuple(lora.get("keys") or ()),
                kind=kind,
                dropout=float(lora.get("dropout", 0.0)),
                scales=scales,
                whole=whole,
                tokens=tuple(map(int, ours.get("tokens", ()))),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AdapterError(
                "an adapter's configuration lacks a field, or has one of another form", where=where, got=repr(error)
            ) from error


def layer_slice(layers: range, num_layers: int) -> tuple[int, int | None]:
    """A range of a model's layers as a configuration has it: counted from the end where it reaches the end."""
    return (-len(layers), None) if layers.stop == num_layers else (layers.start, layers.stop)


def _parse_last(num_layers: int) -> tuple[int, None]:
    """mlx-lm's number of layers: the last ``num_layers``, and all where that is 0 or less."""
    return (-max(num_layers, 0), None)


def _parse_range(start: int, stop: int) -> tuple[int, int]:
    if not 0 <= int(start) < int(stop):
        raise ValueError(f"layers {start} to {stop}")
    return int(start), int(stop)


def invocation_start(tokens: Sequence[int], invocation: Sequence[int]) -> int:
    """Where an adapter of the activation "tokens" begins to act: the first position of the invocation's last place.

    Without the invocation it is ``len(tokens)``: the base alone acts, as in PEFT.
    """
    ids, wanted = list(tokens), list(invocation)
    starts = range(len(ids) - len(wanted), -1, -1)
    return next((start for start in starts if ids[start : start + len(wanted)] == wanted), len(ids))
