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


def marked(part: str, number: int, calls: int = 1) -> str:
    """The part of this number, and how many calls it asks for."""
    return f"«{number}*{calls}:{part}»"


def unmarked(text: str) -> tuple[str, tuple[str, ...]]:
    """A request without its marks, and the part of it that each call is for; none where nothing is marked."""
    found = list(MARK.finditer(text))
    numbered = sorted(found, key=lambda mark: int(mark["number"] or 0))
    parts = [mark["part"] for mark in numbered for _ in range(int((mark["calls"] or "*1")[1:]))]
    return MARK.sub(lambda mark: mark["part"], text), tuple(parts)


def in_order(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts, each once; of a request that is one as a whole, none."""
    distinct = tuple(part for n, part in enumerate(parts) if n == 0 or part != parts[n - 1])
    return distinct if len(distinct) > 1 else ()
