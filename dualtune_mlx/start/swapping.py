"""Other values in a request and its call, where the request says them as they are: so copying is learned, not words."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dualtune_mlx.start.domain import Domain, LabelledRequest, can_be_called
from dualtune_mlx.tools import Tool

SWAPPED = 0.35
"""Share of the values that are replaced."""
SHAPES = (
    ("url", re.compile(r"\w+://\S+")),
    ("email", re.compile(r"\S+@\S+\.\w+")),
    ("path", re.compile(r"\S*/\S*")),
    ("file", re.compile(r"\S+\.[a-z]{1,5}\d?")),
    ("code", re.compile(r"(?=\S*\d)(?=\S*[^\W\d])\S+")),
    ("digits", re.compile(r"[\d.,:-]+")),
    ("word", re.compile(r"[^\W\d_]+")),
    ("symbol", re.compile(r"\S+")),
    ("name", re.compile(r"[A-Z]\S*( [A-Z]\S*){1,2}")),
    ("phrase", re.compile(r"\S+( \S+){1,3}")),
    ("text", re.compile(r".+", re.DOTALL)),
)
"""Kinds of strings that may take each other's places; a string is of the first kind that matches."""


class ValuePool:
    """The strings that the domains' requests say, by their shape."""

    def __init__(self, domains: Iterable[Domain]) -> None:
        found: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for domain in domains:
            tools = {tool.name: tool for tool in domain.tools}
            for request in domain.requests:
                if request.tool and request.arguments:
                    for value in _said_strings(request, tools[request.tool]):
                        found[_shape(value)][value] = None
        self._values = {shape: list(values) for shape, values in found.items()}

    def swap(self, request: LabelledRequest, tool: Tool, rng: random.Random) -> LabelledRequest:
        """The request and its arguments with some values replaced; as it is where the tool does not take the others."""
        text, arguments = request.text, dict(request.arguments or {})
        for value in _said_strings(request, tool):
            other = rng.choice(self._values.get(_shape(value), [value]))
            if rng.random() < SWAPPED and '"' not in other and "\n" not in other and text.count(value) == 1:
                text, arguments = text.replace(value, other), _replace(arguments, value, other)
        for number in [value for value in arguments.values() if type(value) is int]:
            pattern = rf"(?<![\w.,:/-]){number}(?![\w.,:/-])"
            if rng.random() < SWAPPED and len(re.findall(pattern, text)) == 1:
                drawn = _other_number(number, rng)
                text, arguments = re.sub(pattern, str(drawn), text), _replace(arguments, number, drawn)
        return replace(request, text=text, arguments=arguments) if can_be_called(tool, arguments) else request


def _said_strings(request: LabelledRequest, tool: Tool) -> list[str]:
    """The top-level strings of open vocabulary, and those of lists, that the request says once as they are."""
    properties = tool.parameters.get("properties", {})
    found = []
    for name, value in (request.arguments or {}).items():
        schema = properties.get(name, {})
        if isinstance(schema, Mapping) and not {"enum", "format", "pattern", "const"} & (
            set(schema) | set(schema.get("items") or {})
        ):
            found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return [
        value
        for value in dict.fromkeys(found)
        if len(value) > 1 and len(re.findall(rf"(?<!\w){re.escape(value)}(?!\w)", request.text)) == 1
    ]


def _shape(value: str) -> str:
    return next(name for name, pattern in SHAPES if name == "text" or pattern.fullmatch(value))


def _replace(value: Any, old: Any, new: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _replace(item, old, new) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_replace(item, old, new) for item in value]
    return new if type(value) is type(old) and value == old else value


def _other_number(value: int, rng: random.Random) -> int:
    """A number with as many digits."""
    digits = len(str(abs(value)))
    return rng.randint(10 ** (digits - 1) if digits > 1 else 1, 10**digits - 1)
