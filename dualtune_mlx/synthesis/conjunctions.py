"""Several requests in one message: the conjunctions between them, and which wordings they can join."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dualtune_mlx.synthesis.requests import ALREADY_POLITE
from dualtune_mlx.synthesis.subtask_markup import mark_subtask
from dualtune_mlx.synthesis.values.sampling import read_toml

_TABLES: Mapping[str, Any] = read_toml("conjunctions.toml")
ORDER_VERBS = frozenset(_TABLES["order_verbs"].split())
"""Verbs that begin an order."""

ORDER_CONJUNCTIONS: Mapping[str, list[str]] = _TABLES["orders"]
"""By split, texts that join two to four orders: ``"{1}, then {2}"``. The numbers say which order is done first."""

SENTENCE_CONJUNCTIONS: Mapping[str, list[str]] = _TABLES["sentences"]
"""By split, texts that join two or three whole sentences."""

PLACE = re.compile(r"\{([1-4])\}")
"""The place of a request in a conjunction."""


def place_numbers(conjunction: str) -> list[int]:
    """The numbers of the places, from left to right."""
    return [int(number) for number in PLACE.findall(conjunction)]


def is_order(wording: str) -> bool:
    """Whether a wording is one plain order: a verb first, no question, no second sentence, no courtesies."""
    words = wording.split()
    plain = words[0].casefold() in ORDER_VERBS and "?" not in wording and "\n" not in wording
    return plain and not re.search(r"[.!;:] ", wording) and not ALREADY_POLITE.search(wording)


def is_sentence(wording: str) -> bool:
    """Whether a wording of any kind is a single sentence."""
    return "\n" not in wording and not re.search(r"[.!?] ", wording)


def drop_full_stop(wording: str) -> str:
    """The wording without its full stop; a dot that stands alone is a value (``git add .``) and stays."""
    return re.sub(r"(?<=[^.}\s])[.!]$", "", wording)


def join(conjunction: str, requests: Sequence[str], calls: Sequence[int] = ()) -> str:
    """Put requests into the places of a conjunction, each marked as a subtask.

    A request keeps its capital letter only where a sentence begins. A question keeps its question mark in place of
    the conjunction's own mark.

    Args:
        conjunction: such as ``"{1}, then {2}"``.
        requests: the first one goes to ``{1}``, and so on.
        calls: how many calls each request needs; one each where this is empty.
    """

    def put(place: re.Match[str]) -> str:
        number = int(place[1])
        request = requests[number - 1]
        begins = re.search(r"(^|[.!:)\n-]\s*)$", conjunction[: place.start()])
        request = request if begins or request[:2].isupper() else request[0].lower() + request[1:]
        return mark_subtask(request, number, calls[number - 1] if calls else 1)

    return re.sub(r"\?»[.,;]", "?»", PLACE.sub(put, conjunction))
