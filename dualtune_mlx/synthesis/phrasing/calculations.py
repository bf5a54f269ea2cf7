"""Requests for calculations: "what's 12 times 7" for a tool that multiplies two numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from dualtune_mlx.synthesis.phrasing.parts import Part
from dualtune_mlx.synthesis.phrasing.tables import read_table, word_set

LETTERS = "abc"
GAP = re.compile(r"\{([abc])\}")


def find_calculation(name_words: frozenset[str], parts: Sequence[Part], form: str) -> list[str]:
    """Templates for a calculation with these numbers; none where the tool's name or its arguments are of another kind.

    Args:
        name_words: the words of the tool's name.
        parts: the arguments of the call.
        form: ``say``, ``ask``, ``need`` or ``note``.
    """
    if not parts or not all(_is_number(part.value) for part in parts):
        return []
    needed = set(LETTERS[: len(parts)])
    found = [
        one
        for one in read_table("maths").values()
        if not name_words.isdisjoint(names := one["names"].split())
        and name_words <= {*names, *word_set("calculation_words")}  # to add a row is no calculation
    ]
    return [way for one in found for way in one[form] if set(GAP.findall(way)) == needed]


def _is_number(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_number(one) for one in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def word_calculation(ways: Sequence[str], parts: Sequence[Part], rng: random.Random) -> tuple[str, str]:
    """One of the templates with the numbers in their places, and the template."""
    way = rng.choice(ways)
    return GAP.sub(lambda gap: parts[LETTERS.index(gap[1])].words, way), way
