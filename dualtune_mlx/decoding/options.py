"""How arguments are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TypedDict

from dualtune_mlx.errors import UsageError

GROUNDINGS = ("data", "off", "auto", "strict")
"""``data``: hold strings that training always saw copied; ``off``: hold none; ``auto``: hold the unsure ones;
``strict``: hold all that may be anything, and leave out what nobody said."""


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
            "help": "Hold the strings that training always saw copied to words of the conversation (data); none (off); "
            "the unsure ones (auto); all, and leave out what nobody said (strict)."
        },
    )

    def __post_init__(self) -> None:
        ranges = {
            "max_tokens": (is_whole_number(self.max_tokens) and self.max_tokens >= 1, "a whole number, at least 1"),
            "temperature": (is_number(self.temperature) and self.temperature >= 0, "0 or more"),
            "seed": (is_whole_number(self.seed) and 0 <= self.seed < 2**64, "a whole number, 0 to 2**64 - 1"),
            "draft": (isinstance(self.draft, bool), "True or False"),
            "grounding": (self.grounding in GROUNDINGS, ", ".join(GROUNDINGS)),
        }
        for name, (is_right, expected) in ranges.items():
            if not is_right:
                raise UsageError(
                    "an option of decoding is out of range",
                    where=name,
                    got=repr(getattr(self, name)),
                    expected=expected,
                )


def is_whole_number(value: object) -> bool:
    """Whether a value is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return is_whole_number(value) or (isinstance(value, float) and isfinite(value))


class DecodingOptions(TypedDict, total=False):
    """The fields of ``Decoding``, for a call that changes some of them."""

    max_tokens: int
    temperature: float
    seed: int
    draft: bool
    grounding: str
