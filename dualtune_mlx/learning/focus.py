"""The requests that training sees: a sample, and in a later round those of the tools that changed, with some others."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence, Set
from statistics import median
from typing import Any

OTHERS = 1.0
"""Requests of other tools, as a multiple of those of the tools that changed."""
LONGEST = 2.0
"""How long a line may be where there is little time, as a multiple of one of middling length."""


def focus(lines: Sequence[str], changed: Set[str], seed: int) -> list[str]:
    """The lines whose calls are of changed tools, and as many others so as not to forget, drawn at random.

    Args:
        lines: lines of a data file.
        changed: the full names of the tools that changed.
        seed: of the draw.
    """
    own = {number for number, line in enumerate(lines) if changed & set(called_tools(json.loads(line)))}
    others = [number for number in range(len(lines)) if number not in own]
    kept = random.Random(seed).sample(others, min(len(others), round(OTHERS * len(own))))
    return [lines[number] for number in sorted({*own, *kept})]


def sample(lines: Sequence[str], most: int, seed: int, given: Set[str] = frozenset()) -> list[str]:
    """So many of the lines at most, drawn at random; in their order.

    Where there are enough, half of them are given ones: a few among thousands would hardly be seen, and many of a few
    tools would hide the other tools.

    Args:
        lines: lines of a data file.
        most: how many there are at most.
        seed: of the draw.
        given: lines that somebody gave, beside those that were made.
    """
    rng = random.Random(seed)
    own = [number for number, line in enumerate(lines) if line in given]
    made = [number for number, line in enumerate(lines) if line not in given]
    count = min(len(own), max(most // 2, most - len(made)))
    drawn = rng.sample(made, min(len(made), most - count)) + rng.sample(own, count)
    return [lines[number] for number in sorted(drawn)]


def leave_out_long(lines: Sequence[str]) -> list[str]:
    """The lines without those of several exchanges that are longer than ``LONGEST`` times one of middling length.

    A request with its call alone stays, however long: it may be of a tool that takes long texts.
    """
    longest = LONGEST * median(map(len, lines)) if lines else 0
    return [line for line in lines if len(line) <= longest or len(json.loads(line)["messages"]) <= 2]


def called_tools(line: Mapping[str, Any]) -> Iterator[str]:
    """The full names of the tools that a line's calls name."""
    for message in line["messages"]:
        for call in message.get("tool_calls") or ():
            name, server = call["function"]["name"], call.get("server", "")
            yield f"{server}/{name}" if server else name
