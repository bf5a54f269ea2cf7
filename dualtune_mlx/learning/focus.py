"""The requests that a later round learns from: those of the tools that changed, and some others so as not to forget."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

OTHERS = 1.0
"""Requests of other tools, as a multiple of those of the tools that changed."""


def focus(lines: Iterable[Mapping[str, Any]], changed: Set[str], seed: int) -> list[Mapping[str, Any]]:
    """The lines whose calls are of changed tools, and as many others, drawn at random; in their order.

    Args:
        lines: lines of a data file.
        changed: the full names of the tools that changed.
        seed: of the draw.
    """
    listed = list(lines)
    own = {number for number, line in enumerate(listed) if changed & set(called_tools(line))}
    others = [number for number in range(len(listed)) if number not in own]
    kept = random.Random(seed).sample(others, min(len(others), round(OTHERS * len(own))))
    return [listed[number] for number in sorted({*own, *kept})]


def called_tools(line: Mapping[str, Any]) -> Iterator[str]:
    """The full names of the tools that a line's calls name."""
    for message in line["messages"]:
        for call in message.get("tool_calls") or ():
            name, server = call["function"]["name"], call.get("server", "")
            yield f"{server}/{name}" if server else name
