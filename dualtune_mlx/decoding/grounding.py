"""Grounded arguments: a string that the data always copied is restricted to spans of the conversation.

Nearly every wrong argument of a small model is a copy with a slip. So training counts, for each string parameter,
whether its values stand in the conversation word for word (see ``copies``). Where they always do, decoding allows only
spans of the conversation. Exceptions are a few constants, such as "." for the current folder, and one slip in a hundred
values. The spans and the constants become an ``enum`` in the schema, and the grammar does the rest.
``Decoding.grounding`` says which parameters are restricted: all grounded ones, none, those that the model was not sure
of (see ``confidence``), or all strings that may be anything.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

from dualtune_mlx.decoding.places import change_places, is_free_string, list_types
from dualtune_mlx.decoding.spans import find_spans
from dualtune_mlx.tools import Message, Tool
from dualtune_mlx.tools.references import keep_references

MAX_CHARACTERS = 1_000_000
"""Characters of all spans for all grounded parameters of a call: those of about 95 words for one parameter, 55 for
three."""

Grounding = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each tool ("server/name"), its grounded parameters (a path such as ``edits[].oldText``) and their constants."""


def tool_key(tool: Tool) -> str:
    """How groundings name a tool."""
    return f"{tool.server}/{tool.name}"


def ground_schema(tool: Tool, messages: Iterable[Message], grounding: Grounding) -> Mapping[str, Any]:
    """The tool's schema with its grounded parameters restricted to spans of the conversation.

    The schema stays as it is where there is nothing to copy, or where the spans have more than ``MAX_CHARACTERS``
    characters: a list with gaps would forbid right answers.

    Raises:
        ToolError: when the schema has a ``$ref`` and is not a valid JSON Schema.
    """
    parameters = grounding.get(tool_key(tool), {})
    spans = _collect_spans(messages, len(parameters)) if parameters else ()
    if not spans:
        return tool.parameters

    def restrict(path: str, schema: dict[str, Any]) -> dict[str, Any]:
        if path not in parameters or not is_free_string(schema):
            return schema
        values = dict.fromkeys((*spans, *parameters[path]))
        return {**schema, "enum": [*values, None] if "null" in list_types(schema) else [*values]}

    return keep_references(change_places(tool.parameters, restrict), tool)


def filter_grounding(grounding: Grounding, paths: Container[str]) -> Grounding:
    """The grounding of the parameters at some paths alone."""
    return {
        tool: {path: constants for path, constants in parameters.items() if path in paths}
        for tool, parameters in grounding.items()
    }


def _collect_spans(messages: Iterable[Message], parameters: int) -> tuple[str, ...]:
    """The spans for so many parameters, each once; none where they are too many."""
    spans: dict[str, None] = {}
    room = MAX_CHARACTERS // parameters
    for span in find_spans(messages):
        spans[span] = None
        room -= len(span)
        if room < 0:
            return ()
    return tuple(spans)
