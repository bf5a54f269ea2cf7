"""Which strings of written arguments the model was not sure of."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from itertools import accumulate
from math import prod

SURE = 0.5
"""A value with more than half of the probability is the most probable one, whatever the others are."""

_read = json.JSONDecoder().raw_decode


def find_unsure_strings(pieces: Sequence[tuple[bytes, float]], start: int = 0, sure: float = SURE) -> set[str]:
    """The paths (such as ``edits[].oldText``) of the strings whose probability is ``sure`` or less: one half.

    A string's probability is the product of its tokens' probabilities, each among the allowed tokens.

    Args:
        pieces: complete arguments as the grammar spells them, each piece with its UTF-8 and its probability.
        start: how many characters stand before the arguments.
        sure: the highest probability that is unsure.
    """
    ends = list(accumulate(len(piece) for piece, _ in pieces))
    text = b"".join(piece for piece, _ in pieces).decode()
    unsure = set()
    for path, begin, stop in _find_strings(text, start, ""):
        first, last = len(text[:begin].encode()), len(text[:stop].encode())
        inside = pieces[bisect_right(ends, first) : bisect_left(ends, last) + 1]
        if prod(probability for _, probability in inside) <= sure:
            unsure.add(path)
    return unsure


def _find_strings(text: str, at: int, path: str) -> Generator[tuple[str, int, int], None, int]:
    """Yield (path, start, end) of every string in a JSON value as the grammar spells it.

    Returns:
        where the value ends.
    """
    closing = {"{": "}", "[": "]"}.get(text[at])
    if closing is None:
        value, end = _read(text, at)
        if isinstance(value, str):
            yield path, at, end
        return end
    at += 1
    while text[at] != closing:
        at += len(", ") if text[at] == "," else 0
        inside = f"{path}[]"
        if closing == "}":
            name, at = _read(text, at)
            at += len(": ")
            inside = f"{path}.{name}" if path else name
        at = yield from _find_strings(text, at, inside)
    return at + 1
