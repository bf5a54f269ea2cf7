"""Markup in wordings: which words of a request, a subtask, ask for which call.

"«Make the folder {folder}» and «move {file} into it»"         one call each, in order
"«2:Commit it as '{message}'» once «1:{tracked} is staged»"    in another order
"«*2:Stage {tracked} and commit it as '{message}'»"            one subtask, two calls
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SUBTASK = re.compile(r"«(?:(?P<number>\d)?(?P<calls>\*\d)?:)?(?P<subtask>[^«»]+)»")
"""A subtask between its marks, with its number and its number of calls, where they are given."""


def mark_subtask(subtask: str, number: int, calls: int = 1) -> str:
    """The subtask between marks, with its number, and with how many calls it asks for."""
    return f"«{number}*{calls}:{subtask}»"


def parse_markup(text: str) -> tuple[str, tuple[str, ...]]:
    """The request without marks, and the subtask of each call; no subtasks where nothing is marked."""
    found = list(SUBTASK.finditer(text))
    numbered = sorted(found, key=lambda match: int(match["number"] or 0))
    subtasks = [match["subtask"] for match in numbered for _ in range(int((match["calls"] or "*1")[1:]))]
    return SUBTASK.sub(lambda match: match["subtask"], text), tuple(subtasks)


def distinct_subtasks(subtasks: Sequence[str]) -> tuple[str, ...]:
    """The subtasks of a request, given that of each call; none where all calls have the same one."""
    distinct = tuple(subtask for n, subtask in enumerate(subtasks) if n == 0 or subtask != subtasks[n - 1])
    return distinct if len(distinct) > 1 else ()
