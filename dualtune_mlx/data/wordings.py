"""The wording of a request: what is left of it when case, spaces and values do not count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b

from dualtune_mlx.tools import Message, Trajectory
from dualtune_mlx.tools.leaves import iter_leaves

VALUE = "§"
"""What stands for a value in a wording."""
SHORTEST_VALUE = 2
"""Characters; a shorter value stands in other words too."""
WORDS = re.compile(r"[^\W_]+")
FOLDED = re.compile(rf"[^\W_]+|{VALUE}")
FOUND = re.compile(
    r"""
      "[^"\n]+" | “[^”\n]+” | `[^`\n]+` | (?<!\w)'[^'\n]+'(?!\w)   # what is quoted
    | \w+://\S+ | [\w.+-]+@[\w-]+\.\w+                             # addresses
    | (?:[~.]{0,2}/)?(?:[\w.-]+/)+[\w.-]* | [~.]{0,2}/[\w.-]+      # paths
    | \w[\w-]*\.[A-Za-z]\w{0,4}\b                                  # names of files
    | \#?\b\d[\w.,:-]*                                             # numbers, dates, times, hashes
    """,
    re.VERBOSE,
)
"""What is a value wherever it stands."""


def fold(text: str) -> str:
    """The words of a text: case, spaces and punctuation do not count."""
    return " ".join(WORDS.findall(text.casefold()))


def fold_wording(trajectory: Trajectory) -> str:
    """The wording of a trajectory's requests: folded, with ``§`` for each value. "" where nothing else is said.

    Values are what the calls' arguments hold, and what is quoted, a number, a path, an address or the name of a file.
    """
    said = {text.casefold() for message in trajectory.messages for text in _leaves(message)}
    requests = "\n".join(message.content for message in trajectory.messages if message.role == "user").casefold()
    for value in sorted((one for one in said if len(one) >= SHORTEST_VALUE), key=lambda one: (-len(one), one)):
        requests = _fold_value(requests, value)
    words = FOLDED.findall(FOUND.sub(VALUE, requests))
    return " ".join(words) if any(word != VALUE for word in words) else ""


def _fold_value(text: str, value: str) -> str:
    """The text with ``§`` for a value, wherever no letter or digit stands before or behind it."""
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if not (text[max(0, start - 1) : start].isalnum() or text[end : end + 1].isalnum()):
            text, end = f"{text[:start]}{VALUE}{text[end:]}", start + len(VALUE)
        start = text.find(value, end)
    return text


def digest(*texts: str) -> int:
    """64 bits that stand for texts, the same in every process; they fit SQLite's integers."""
    return int.from_bytes(blake2b("\0".join(texts).encode(), digest_size=8).digest(), "big", signed=True)


def _leaves(message: Message) -> Iterator[str]:
    for call in message.tool_calls:
        for leaf in iter_leaves(call.arguments):
            if leaf is not None and not isinstance(leaf, bool):
                yield str(leaf).strip()
