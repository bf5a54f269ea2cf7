"""How arguments are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TypedDict

from dualtune_mlx.errors import UsageError

GROUNDINGS = ("data", "off", "auto")
"""``data``: hold strings that training always saw copied; ``off``: hold none; ``auto``: hold the unsure ones."""


@dataclass(frozen=True)
class Decoding:
    """How arguments are written. The choice of a tool is always exact: no option here changes it.

    Each field's ``help`` says what it does; the command line shows the same text.

    Raises:
        UsageError: when a value is out of range.
    """

    max_tokens: int = field(default=512, metadata={"help": "Longest arguments, in tokens."})
    temperature: float = field(
        default=0.0,
        metadata={
            "help": "0 writes the most probable arguments; otherwise they are drawn. The choice is exact.",
        },
    )
    seed: int = field(default=0, metadata={"help": "Decides every draw."})
    draft: bool = field(
        default=True,
        metadata={"help": "Draft tokens from the conversation: fewer forward passes, the same arguments."},
    )
    grounding: str = field(
        default="data",
        metadata={
            "help": "Hold the strings that training always saw copied to spans of the conversation; or none; "
            "or the unsure ones."
        },
    )

    def __post_init__(self) -> None:
        ranges = {
            "max_tokens": (self.max_tokens >= 0, "at least 0"),
            "temperature": (isfinite(self.temperature) and self.temperature >= 0, "0 or more"),
            "seed": (0 <= self.seed < 2**64, "0 to 2**64 - 1"),
            "grounding": (self.grounding in GROUNDINGS, ", ".join(GROUNDINGS)),
        }
        for name, (is_right, expected) in ranges.items():
            if not is_right:
                raise UsageError(
                    "an option of decoding is out of range", where=name, got=getattr(self, name), expected=expected
                )


class DecodingOptions(TypedDict, total=False):
    """The fields of ``Decoding``, for a call that changes some of them."""

    max_tokens: int
    temperature: float
    seed: int
    draft: bool
    grounding: str
