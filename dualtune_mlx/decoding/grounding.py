"""Grounded arguments: a string that the data always copied is restricted to spans of the conversation.

Nearly every wrong argument of a small model is a copy with a slip. So training counts, for each string parameter,
whether its values stand in the conversation word for word. Where they always do, decoding allows only spans of the
conversation. Exceptions are a few constants, such as "." for the current folder, and one slip in a hundred values.
The spans and the constants become an ``enum`` in the schema, and the grammar does the rest. ``Decoding.grounding``
says which parameters are restricted: all grounded ones, none, or those that the model was not sure of (see
``confidence``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.tools import Message, Tool, find_called_tool
from dualtune_mlx.tools.references import keep_references

MIN_EXAMPLES = 8
MAX_CONSTANTS = 3
SLIPS = 0.01
"""Which share of a parameter's values may be neither a copy nor a constant."""
MAX_CHARACTERS = 1_000_000
"""Characters of all spans for all grounded parameters of a call: those of about 95 words for one parameter, 55 for
three."""

CONSTRAINTS = frozenset(
    ("enum", "const", "pattern", "format", "minLength", "maxLength", "$ref", "anyOf", "allOf", "oneOf", "not", "if")
)

Grounding = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each tool ("server/name"), its grounded parameters (a path such as ``edits[].oldText``) and their constants."""

_BORDER = (
    r"\s\"'`,;:?!()\[\]{}<>¡¿«»"
    r"\u2010-\u205e\u3000-\u303f\uff01-\uff0f\uff1a-\uff20"  # typographic quotes and dashes, East Asian punctuation
)
_START = re.compile(rf"(?:(?<=[{_BORDER}])|^)(?=\S)")
_END = re.compile(rf"(?<=\S)(?=\.*(?:[{_BORDER}]|$))")
"""Before a border, and before the period that ends a sentence; not before the period of a file name."""


def learn_grounding(decisions: Iterable[Decision]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Find the parameters that the data always copies from the conversation, and their constants.

    Raises:
        DataError: when a call is of none of its decision's tools, or of several.
    """
    copied: Counter[tuple[str, str]] = Counter()
    others: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for decision in decisions:
        if decision.call.is_respond:
            continue
        tool = find_called_tool(decision.call, decision.tools)
        for path, value in _find_strings(decision.call.arguments):
            key = (f"{tool.server}/{tool.name}", path)
            if is_span(value, decision.messages):
                copied[key] += 1
            else:
                others[key][value] += 1
    grounding: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for key, count in copied.items():
        constants = [value for value, times in others[key].items() if times > 1]
        slips = len(others[key]) - len(constants)
        if count >= MIN_EXAMPLES and len(constants) <= MAX_CONSTANTS and slips <= SLIPS * count:
            name, path = key
            grounding[name][path] = tuple(sorted(constants))
    return dict(grounding)


def find_slips(decision: Decision, grounding: Grounding) -> list[str]:
    """The paths of grounded values of a call that are neither copies nor constants: decoding will not write them."""
    if decision.call.is_respond or not grounding:
        return []
    tool = find_called_tool(decision.call, decision.tools)
    parameters = grounding.get(f"{tool.server}/{tool.name}", {})
    return [
        path
        for path, value in _find_strings(decision.call.arguments)
        if path in parameters and value not in parameters[path] and not is_span(value, decision.messages)
    ]


def ground_schema(tool: Tool, messages: Iterable[Message], grounding: Grounding) -> Mapping[str, Any]:
    """The tool's schema with its grounded parameters restricted to spans of the conversation.

    The schema stays as it is where there is nothing to copy, or where the spans have more than ``MAX_CHARACTERS``
    characters: a list with gaps would forbid right answers.

    Raises:
        ToolError: when the schema has a ``$ref`` and is not a valid JSON Schema.
    """
    parameters = grounding.get(f"{tool.server}/{tool.name}", {})
    spans: dict[str, None] = {}
    room = MAX_CHARACTERS // max(1, len(parameters))
    for span in find_spans(messages) if parameters else ():
        spans[span] = None
        room -= len(span)
        if room < 0:
            return tool.parameters
    if not spans:
        return tool.parameters
    return keep_references(_restrict(tool.parameters, "", parameters, tuple(spans)), tool)


def filter_grounding(grounding: Grounding, paths: Container[str]) -> Grounding:
    """The grounding of the parameters at some paths alone."""
    return {
        tool: {path: constants for path, constants in parameters.items() if path in paths}
        for tool, parameters in grounding.items()
    }


def find_spans(messages: Iterable[Message]) -> Iterator[str]:
    """The spans between word borders in messages and in the arguments of earlier calls. Some repeat."""
    for text in _copied_texts(messages):
        ends = [match.start() for match in _END.finditer(text)]
        for match in _START.finditer(text):
            start = match.start()
            for end in ends[bisect_right(ends, start) :]:
                yield text[start:end]


def is_span(value: str, messages: Iterable[Message]) -> bool:
    """Whether a value is one of ``find_spans(messages)``; fast for a conversation of any length."""
    return value != "" and any(_contains_span(text, value) for text in _copied_texts(messages))


def _contains_span(text: str, value: str) -> bool:
    """Whether a value stands between word borders somewhere in a text."""
    start = text.find(value)
    while start >= 0:
        if _START.match(text, start) and _END.match(text, start + len(value)):
            return True
        start = text.find(value, start + 1)
    return False


def _copied_texts(messages: Iterable[Message]) -> Iterator[str]:
    """The texts that values are copied from: all but the system message, which is long and asks for nothing."""
    for message in messages:
        if message.role != "system":
            yield message.content
            for call in message.tool_calls:
                yield from (value for _, value in _find_strings(call.arguments))


def _find_strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, string) for every string in a call's arguments."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _find_strings(item, _child_path(path, name))
    elif isinstance(value, list):
        for item in value:
            yield from _find_strings(item, f"{path}[]")


def _restrict(schema: Any, path: str, parameters: Mapping[str, tuple[str, ...]], spans: tuple[str, ...]) -> Any:
    """The schema with an ``enum`` at every grounded path. A string with other constraints stays as it is."""
    if not isinstance(schema, Mapping):
        return schema
    restricted = dict(schema)
    types = _types(schema)
    if path in parameters and "string" in types and types <= {"string", "null"} and CONSTRAINTS.isdisjoint(schema):
        values = dict.fromkeys((*spans, *parameters[path]))
        restricted["enum"] = [*values, None] if "null" in types else [*values]
    if isinstance(schema.get("properties"), Mapping):
        restricted["properties"] = {
            name: _restrict(item, _child_path(path, name), parameters, spans)
            for name, item in schema["properties"].items()
        }
    if "items" in schema:
        restricted["items"] = _restrict(schema["items"], f"{path}[]", parameters, spans)
    if isinstance(schema.get("anyOf"), list):
        restricted["anyOf"] = [_restrict(item, path, parameters, spans) for item in schema["anyOf"]]
    return restricted


def _types(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type")
    return {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)}


def _child_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
