"""A value's words, and whether a text says a value: all conversions, in one order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from dualtune_mlx.synthesis.conversions.choices import CHOICE, PHRASE
from dualtune_mlx.synthesis.conversions.codes import CODE
from dualtune_mlx.synthesis.conversions.conversion import Leaf
from dualtune_mlx.synthesis.conversions.dates import DATE, MOMENT, TIME
from dualtune_mlx.synthesis.conversions.durations import DURATION
from dualtune_mlx.synthesis.conversions.numbers import DIGITS, NUMBER_WORDS, SHARE
from dualtune_mlx.synthesis.conversions.recurrence import RECURRENCE
from dualtune_mlx.synthesis.conversions.switches import SWITCH
from dualtune_mlx.synthesis.conversions.unsaid import UNSAID, is_only_choice
from dualtune_mlx.synthesis.conversions.verbatim import VERBATIM
from dualtune_mlx.synthesis.descriptions import describe
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter, list_parameters

CONVERSIONS = (
    VERBATIM,
    DIGITS,
    NUMBER_WORDS,
    SHARE,
    DURATION,
    DATE,
    MOMENT,
    TIME,
    RECURRENCE,
    CODE,
    CHOICE,
    PHRASE,
    SWITCH,
    UNSAID,
)
"""All conversions. A value is found by the first that finds it."""
WEIGHTS = {VERBATIM.name: 3, DIGITS.name: 12, SHARE.name: 8, DURATION.name: 12, CODE.name: 6, CHOICE.name: 6}
"""How often a conversion is used, beside the others that there are for a value; 2 where nothing is said here."""
DATED = frozenset((DATE.name, MOMENT.name, TIME.name, RECURRENCE.name))
"""Conversions beside which a value is seldom said as it is written."""


def say(parameter: Parameter, value: Any, rng: random.Random, today: str = "") -> tuple[str, str]:
    """Words for a leaf of a call's arguments, and the name of the conversion that leads to them.

    Args:
        parameter: what the schema says of the value.
        value: the value.
        rng: draws the words.
        today: the date of the conversation, which words such as "tomorrow" are relative to; "" for none.

    Returns:
        Words and conversion. The words are "" where nobody needs to say the value.
    """
    leaf = Leaf(parameter, value, today)
    ways = {one.name: words for one in CONVERSIONS if (words := one.list_words(leaf))}
    if not ways or is_only_choice(parameter, value):
        return "", UNSAID.name
    weights = [_weigh(name, ways) for name in ways]
    name = rng.choices([*ways], weights)[0]
    return rng.choice(ways[name]), name


def _weigh(name: str, ways: Mapping[str, object]) -> float:
    if name == VERBATIM.name and not DATED.isdisjoint(ways):
        return 0.5
    return WEIGHTS.get(name, 2)


def find_said(parameter: Parameter, value: Any, text: str, today: str = "") -> str:
    """The conversion by which a text says a leaf of a call's arguments; "" where it does not say it.

    Args:
        parameter: what the schema says of the value.
        value: the value.
        text: the request.
        today: the date of the conversation; "" for none.
    """
    leaf = Leaf(parameter, value, today)
    return next((one.name for one in CONVERSIONS if one.find(leaf, text)), "")


def list_leaves(tool: Tool, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Parameter, Any]]:
    """The leaves of a call's arguments, each with its path (``edits[0].oldText``) and what the schema says of it.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    known: dict[str, Parameter] = {}
    for parameter in list_parameters(tool):
        known.setdefault(parameter.path, describe(tool, parameter))
    yield from _walk(arguments, "", "", known)


def _walk(value: Any, path: str, place: str, known: Mapping[str, Parameter]) -> Iterator[tuple[str, Parameter, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _walk(item, f"{path}.{name}" if path else name, f"{place}.{name}" if place else name, known)
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            yield from _walk(item, f"{path}[{number}]", f"{place}[]", known)
    elif path:
        yield path, known.get(place) or Parameter(place, {}, (), False), value


def find_unsaid(tool: Tool, arguments: Mapping[str, Any], text: str, today: str = "") -> tuple[str, ...]:
    """The paths of the leaves of a call's arguments that a request does not say.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    leaves = list_leaves(tool, arguments)
    return tuple(path for path, parameter, value in leaves if not find_said(parameter, value, text, today))
