"""Grounded arguments: a string that the data always copied is held to spans of the conversation.

Nearly every wrong argument of a small model is a near-miss copy. Training counts, for each string
parameter, whether its values stand in the conversation word for word; where they always do (but for a
few constants, such as "." for the current folder, and a slip in a hundred), decoding allows only spans
of the conversation and those constants. They become an ``enum`` in the schema, so the grammar does the
rest. ``Decoding.grounding`` says whether all of them are held, none, or those alone that the model was
not sure of (see ``confidence``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.tools import Message, Tool, tool_called

MIN_EXAMPLES = 8
MAX_CONSTANTS = 3
SLIPS = 0.01
"""How many of a parameter's values may be neither copied nor a constant: one odd value frees not all the others."""
MAX_CHARACTERS = 1_000_000
"""All spans of all grounded parameters of a call together: about 95 words for one parameter, 55 for three."""

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
"""Also before the period of a sentence, not before that of a file's ending."""


def learn_grounding(decisions: Iterable[Decision]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Which parameters the data always copies from the conversation, and their constants."""
    copied: Counter[tuple[str, str]] = Counter()
    others: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for decision in decisions:
        if decision.call.is_respond:
            continue
        tool = tool_called(decision.call, decision.tools)
        for path, value in _strings(decision.call.arguments):
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


def grounded(tool: Tool, messages: Iterable[Message], grounding: Grounding) -> Mapping[str, Any]:
    """The tool's schema with its grounded parameters held to spans of the conversation.

    A conversation with more than ``MAX_CHARACTERS`` of spans holds nothing: the schema stays as it is,
    because a list with gaps would forbid right answers. So it does where there is nothing to copy.
    """
    parameters = grounding.get(f"{tool.server}/{tool.name}", {})
    spans: dict[str, None] = {}
    room = MAX_CHARACTERS // max(1, len(parameters))
    for span in spans_of(messages) if parameters else ():
        spans[span] = None
        room -= len(span)
        if room < 0:
            return tool.parameters
    schema: Mapping[str, Any] = _held(tool.parameters, "", parameters, tuple(spans)) if spans else tool.parameters
    return schema


def only(grounding: Grounding, paths: Container[str]) -> Grounding:
    """The part of a grounding that is about some paths."""
    return {
        tool: {path: constants for path, constants in parameters.items() if path in paths}
        for tool, parameters in grounding.items()
    }


def spans_of(messages: Iterable[Message]) -> Iterator[str]:
    """The spans between word borders of what was said and of what earlier calls were made with; some repeat."""
    for text in _texts(messages):
        ends = [match.start() for match in _END.finditer(text)]
        for match in _START.finditer(text):
            start = match.start()
            for end in ends[bisect_right(ends, start) :]:
                yield text[start:end]


def is_span(value: str, messages: Iterable[Message]) -> bool:
    """Whether a value is one of ``spans_of(messages)``, however long the conversation is."""
    return value != "" and any(_stands_in(text, value) for text in _texts(messages))


def _stands_in(text: str, value: str) -> bool:
    """Whether a value stands somewhere in a text between word borders."""
    start = text.find(value)
    while start >= 0:
        if _START.match(text, start) and _END.match(text, start + len(value)):
            return True
        start = text.find(value, start + 1)
    return False


def _texts(messages: Iterable[Message]) -> Iterator[str]:
    """What values are copied from: everything but the system message, which is long and asks for nothing."""
    for message in messages:
        if message.role != "system":
            yield message.content
            for call in message.tool_calls:
                yield from (value for _, value in _strings(call.arguments))


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The strings in a call's arguments, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, _inside(path, name))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, f"{path}[]")


def _held(schema: Any, path: str, parameters: Mapping[str, tuple[str, ...]], spans: tuple[str, ...]) -> Any:
    """The schema with an ``enum`` at every grounded path that leads to a string without other constraints."""
    if not isinstance(schema, Mapping):
        return schema
    held = dict(schema)
    types = _types(schema)
    if path in parameters and "string" in types and types <= {"string", "null"} and CONSTRAINTS.isdisjoint(schema):
        values = dict.fromkeys((*spans, *parameters[path]))
        held["enum"] = [*values, None] if "null" in types else [*values]
    if isinstance(schema.get("properties"), Mapping):
        held["properties"] = {
            name: _held(item, _inside(path, name), parameters, spans) for name, item in schema["properties"].items()
        }
    if "items" in schema:
        held["items"] = _held(schema["items"], f"{path}[]", parameters, spans)
    if isinstance(schema.get("anyOf"), list):
        held["anyOf"] = [_held(item, path, parameters, spans) for item in schema["anyOf"]]
    return held


def _types(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type")
    return {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)}


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
