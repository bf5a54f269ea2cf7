"""Marks around the parts of a request: what of it asks for which call.

"«Make the folder {folder}» and «move {file} into it»"         a call each, in order
"«2:Commit it as '{message}'» once «1:{tracked} is staged»"    another order
"«*2:Stage {tracked} and commit it as '{message}'»"            one part, two calls
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MARK = re.compile(r"«(?:(?P<number>\d)?(?P<calls>\*\d)?:)?(?P<part>[^«»]+)»")
"""A part between its marks, with its number and its calls, where they are said."""


def marked(subtask: str, number: int, calls: int = 1) -> str:
    """The subtask with its marks: its number, and how many calls it asks for."""
    return f"«{number}*{calls}:{subtask}»"


def unmarked(text: str) -> tuple[str, tuple[str, ...]]:
    """A request without its marks, and the part of it that each call is for; none where nothing is marked."""
    found = list(MARK.finditer(text))
    numbered = sorted(found, key=lambda mark: int(mark["number"] or 0))
    subtasks = [mark["part"] for mark in numbered for _ in range(int((mark["calls"] or "*1")[1:]))]
    return MARK.sub(lambda mark: mark["part"], text), tuple(subtasks)


def in_order(subtasks: Sequence[str]) -> tuple[str, ...]:
    """The parts, each once; of a request that is one as a whole, none."""
    distinct = tuple(subtask for n, subtask in enumerate(subtasks) if n == 0 or subtask != subtasks[n - 1])
    return distinct if len(distinct) > 1 else ()
