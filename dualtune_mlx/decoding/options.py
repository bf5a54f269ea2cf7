"""How arguments are written."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TypedDict

from dualtune_mlx.errors import UsageError

GROUNDINGS = ("data", "off", "auto")


@dataclass(frozen=True)
class Decoding:
    """How arguments are written; the choice of a tool is always the exact most probable one.

    Args:
        max_tokens: the longest arguments.
        temperature: 0 takes the most probable token; otherwise one is drawn, from the allowed ones alone.
        seed: decides every draw.
        draft: compute along with a token those that followed it in the conversation; the arguments are the same.
        grounding: ``data`` holds the strings that the training data always copied from the conversation to spans of
            it; ``auto`` only those whose value the model was not sure of without; ``off`` none.

    Raises:
        UsageError: when a value is out of range.
    """

    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    draft: bool = True
    grounding: str = "data"

    def __post_init__(self) -> None:
        right = {
            "max_tokens": (self.max_tokens >= 0, "at least 0"),
            "temperature": (isfinite(self.temperature) and self.temperature >= 0, "0 or more"),
            "seed": (0 <= self.seed < 2**64, "0 to 2**64 - 1"),
            "grounding": (self.grounding in GROUNDINGS, ", ".join(GROUNDINGS)),
        }
        for name, (is_right, expected) in right.items():
            if not is_right:
                raise UsageError(
                    "an option of decoding is out of range", where=name, got=getattr(self, name), expected=expected
                )


class Options(TypedDict, total=False):
    """The fields of ``Decoding``, for calls that change some of them."""

    max_tokens: int
    temperature: float
    seed: int
    draft: bool
    grounding: str
