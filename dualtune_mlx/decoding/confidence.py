"""Which of the strings in written arguments the model was sure of."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from itertools import accumulate
from math import prod

SURE = 0.5
"""A value with more than half of the probability is the most probable one, whatever the others are."""

_read = json.JSONDecoder().raw_decode


def unsure_strings(written: Sequence[tuple[bytes, float]], start: int = 0) -> set[str]:
    """The paths (such as ``edits[].oldText``) of the strings that hold half of the probability or less.

    A string's probability is the product of those of its tokens, each among the allowed ones.

    Args:
        written: complete arguments in the grammar's spelling, piece by piece: UTF-8, and the piece's probability.
        start: how many characters of a frame stand before them.
    """
    ends = list(accumulate(len(piece) for piece, _ in written))
    text = b"".join(piece for piece, _ in written).decode()
    unsure = set()
    for path, begin, stop in _strings(text, start, ""):
        first, last = len(text[:begin].encode()), len(text[:stop].encode())
        inside = written[bisect_right(ends, first) : bisect_left(ends, last) + 1]
        if prod(probability for _, probability in inside) <= SURE:
            unsure.add(path)
    return unsure


def _strings(text: str, at: int, path: str) -> Generator[tuple[str, int, int], None, int]:
    """(path, start, end) of every string in a JSON value of the grammar's spelling; returns where the value ends."""
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
        at = yield from _strings(text, at, inside)
    return at + 1
