"""Several requests in one message: the joints between them, and the orders that may stand in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dualtune_mlx.synthesis.requests import ALREADY_POLITE
from dualtune_mlx.synthesis.subtask_markup import marked
from dualtune_mlx.synthesis.values.sampling import read_toml

_TABLES: Mapping[str, Any] = read_toml("conjunctions.toml")
ORDERS = frozenset(_TABLES["orders"].split())
"""Verbs that begin an order."""

JOINTS: Mapping[str, list[str]] = _TABLES["joints"]
"""How two to four orders are joined, by split: ``"{1}, then {2}"``. The numbers say what is to be done first."""

SENTENCES: Mapping[str, list[str]] = _TABLES["sentences"]
"""How two or three whole sentences are joined, by split."""

PLACE = re.compile(r"\{([1-4])\}")


def places(joint: str) -> list[int]:
    """The orders' numbers as they stand in a joint."""
    return [int(number) for number in PLACE.findall(joint)]


def is_order(wording: str) -> bool:
    """Whether a wording is one plain order: a verb first, no question, no second sentence, no courtesies."""
    words = wording.split()
    plain = words[0].casefold() in ORDERS and "?" not in wording and "\n" not in wording
    return plain and not re.search(r"[.!;:] ", wording) and not ALREADY_POLITE.search(wording)


def is_sentence(wording: str) -> bool:
    """Whether a wording, of any form, is a single sentence."""
    return "\n" not in wording and not re.search(r"[.!?] ", wording)


def without_stop(wording: str) -> str:
    """An order or a sentence without its full stop; a dot that stands alone is a value (``git add .``)."""
    return re.sub(r"(?<=[^.}\s])[.!]$", "", wording)


def join(joint: str, orders: Sequence[str], calls: Sequence[int] = ()) -> str:
    """The orders in their places, marked: with a capital letter, if they have one, only where a sentence begins.

    A question keeps its own mark in place of the joint's. ``calls`` are how many each order asks for, where not one.
    """

    def put(place: re.Match[str]) -> str:
        number = int(place[1])
        order = orders[number - 1]
        begins = re.search(r"(^|[.!:)\n-]\s*)$", joint[: place.start()])
        order = order if begins or order[:2].isupper() else order[0].lower() + order[1:]
        return marked(order, number, calls[number - 1] if calls else 1)

    return re.sub(r"\?»[.,;]", "?»", PLACE.sub(put, joint))
