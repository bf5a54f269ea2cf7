"""Arguments that a request says itself: a proposal that a person confirms or corrects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.synthesis.conversions import find_said
from dualtune_mlx.synthesis.conversions.unsaid import is_default
from dualtune_mlx.synthesis.conversions.verbatim import stands_verbatim
from dualtune_mlx.synthesis.descriptions import list_choices, list_examples
from dualtune_mlx.synthesis.planning.observed import find_observed
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.lexical import split_words
from dualtune_mlx.tools.parameters import Parameter, list_parameters

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune

QUOTED = re.compile(r"""(?<!\w)(["'`])(?=\S)(.+?)(?<=\S)\1(?!\w)""")
NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-]|\.\d)")
NAME = re.compile(r"[^\s,;:!?\"'`()]*(?:[/\\_@#.-]|(?<=[a-z])[A-Z]|\d)[^\s,;:!?\"'`()]*")
"""A word that is no plain word: a path, a file, an id, an address."""
NUMBERS = frozenset(("integer", "number"))
WORDS_TO = 31
"""Numbers up to here are looked for in words too."""
DAYS = 400
"""Dates are looked for so many days before and after today."""


def find_arguments(
    tool: Tool, request: str, today: str = "", values: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, Any]:
    """The arguments of a tool that a request says: listed values, switches, dates, numbers, quoted texts, names.

    Args:
        tool: the tool.
        request: what the user says.
        today: the date that it is said on; "" for none.
        values: values that servers really hold, as in ``values.json``.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    found: dict[str, Any] = {}
    free = _list_texts(request)
    parameters = [one for one in list_parameters(tool) if one.path in tool.parameters.get("properties", {})]
    alone = sum(bool(NUMBERS & _types(one)) for one in parameters) == 1
    for parameter in sorted(parameters, key=lambda one: (not one.required, not list_choices(one))):
        known = [*list_known(values or {}, tool, parameter), *list_examples(parameter)]
        for value in _list_candidates(parameter, request, today, known, free, alone):
            if value in found.values() and not isinstance(value, bool):
                continue
            if isinstance(value, list) or _says(parameter, value, request, today):
                found[parameter.path] = value
                taken = value if isinstance(value, list) else [value]
                free = [text for text in free if text not in taken]
                break
    return found


def list_known(values: Mapping[str, Sequence[Any]], tool: Tool, parameter: Parameter) -> list[Any]:
    """The values that servers really hold for a parameter or, where it is a list, for its items."""
    items = (one for one in list_parameters(tool) if one.path == f"{parameter.path}[]")
    return [value for one in (parameter, *items) for value in find_observed(values, tool, one)]


def fill_with(
    dualtune: DualTune, tools: Sequence[Tool], today: str, values: Mapping[str, Sequence[Any]] | None = None
) -> Callable[[Tool, str], dict[str, Any]]:
    """``find_arguments``, and what else a bundle's arguments have that the request says."""

    def fill(tool: Tool, request: str) -> dict[str, Any]:
        found = find_arguments(tool, request, today, values)
        try:
            written = dualtune.arguments(request, tool, tools, today=today if dualtune.tells_date else None)
        except DualTuneError:
            return found
        known = {parameter.path: parameter for parameter in list_parameters(tool)}
        said = {n: v for n, v in written.items() if n in known and find_said(known[n], v, request, today)}
        return {**found, **said}

    return fill


def _says(parameter: Parameter, value: Any, request: str, today: str) -> bool:
    return not is_default(parameter, value) and bool(find_said(parameter, value, request, today))


def _list_candidates(
    parameter: Parameter, request: str, today: str, known: Iterable[Any], free: Sequence[str], alone: bool
) -> Iterator[Any]:
    """Values that a request may mean.

    Args:
        known: values that the parameter may have.
        free: the request's texts and names that no other parameter has.
        alone: whether the tool has one number alone.
    """
    if choices := list_choices(parameter):
        yield from choices
        return
    types = _types(parameter)
    if "boolean" in types:
        yield from (True, False)
    if parameter.is_date and today:
        yield from _list_days(date.fromisoformat(today))
    elif types & NUMBERS and (alone or parameter.required or _is_named(parameter, request)):
        yield from (float(one) if "." in one else int(one) for one in NUMBER.findall(request))
        yield from range(WORDS_TO + 1)
    elif "string" in types:
        yield from sorted((one for one in known if isinstance(one, str)), key=len, reverse=True)
        yield from free
    elif "array" in types:
        named = [one for one in known if isinstance(one, str) and stands_verbatim(one, request)]
        if items := list(dict.fromkeys([*named, *free])):
            yield items


def _is_named(parameter: Parameter, request: str) -> bool:
    """Whether a request has a word of a parameter's name or description."""
    return not set(split_words(f"{parameter.path} {parameter.description}")).isdisjoint(split_words(request))


def _list_texts(request: str) -> list[str]:
    """What is quoted in a request, and its names, each once."""
    quoted = [match[2] for match in QUOTED.finditer(request)]
    names = [match[0].rstrip(".") for match in NAME.finditer(QUOTED.sub(" ", request))]
    return list(dict.fromkeys(text for text in (*quoted, *names) if text and not NUMBER.fullmatch(text)))


def _types(parameter: Parameter) -> set[str]:
    named = [one.get("type", "string") for one in parameter.alternatives]
    return {kind for one in named for kind in (one if isinstance(one, list) else [one])}


def _list_days(now: date) -> Iterator[str]:
    for away in range(DAYS + 1):
        yield (now + timedelta(away)).isoformat()
        if away:
            yield (now - timedelta(away)).isoformat()
