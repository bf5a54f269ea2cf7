"""A tool's schema narrowed by what the words of a request say: which optional arguments a call has, and which words
have the form of its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp
from typing import Any

from dualtune_mlx.decoding.forms import spans_of_form
from dualtune_mlx.decoding.places import find_properties, is_free_string, leave_out
from dualtune_mlx.decoding.said import USUAL, said_logit
from dualtune_mlx.decoding.spans import child_path
from dualtune_mlx.decoding.word_classifier import WordReading
from dualtune_mlx.tools import Message, Tool

THERE, ABSENT = 0.7, 0.45
"""From which probability on the words require an argument, and up to which they leave it out; between these the model
decides."""
OWN_WORDS = 0.5
"""What an argument's own words count beside what was learned of it."""
_TIES = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "minProperties"))
"""What ties arguments to each other, so that one cannot be left out by itself."""


def narrow(tool: Tool, request: str, reading: WordReading, messages: Sequence[Message]) -> Tool:
    """The tool with the optional arguments required that are surely there, and without those that surely are not.

    A copied argument whose values always had a form is held to the spans of the conversation that have it, where there
    are some.

    Args:
        tool: the tool.
        request: what is due.
        reading: what was learned of its words; of a tool that nothing was learned of, the argument's own words decide.
        messages: the conversation.

    Raises:
        ToolError: when its schema has a ``$ref`` and is not a valid JSON Schema.
    """
    shares = _judge_optional(tool, request, reading)
    there = [name for name, share in shares.items() if share >= THERE]
    changes: dict[str, Any] = {}
    if there:
        changes["required"] = [*tool.parameters.get("required", ()), *there]
    if held := dict(_hold_forms(tool, reading.forms.get(tool.full_name, {}), messages)):
        changes["properties"] = {**tool.parameters["properties"], **held}
    narrowed = replace(tool, parameters={**tool.parameters, **changes}) if changes else tool
    return leave_out(narrowed, {child_path("", name) for name, share in shares.items() if share <= ABSENT})


def _judge_optional(tool: Tool, request: str, reading: WordReading) -> dict[str, float]:
    """The probability of each optional argument that it is there."""
    learned, optional = reading.arguments(tool.full_name), sorted(find_optional(tool))
    own = {name: said_logit(request, tool, name) for name in optional}
    if reading.knows(tool.full_name):
        logits = {name: learned[name] + OWN_WORDS * (own[name] - USUAL) for name in optional if name in learned}
    else:
        logits = own
    return {name: 1 / (1 + exp(-logit)) for name, logit in logits.items()}


def _hold_forms(
    tool: Tool, forms: Mapping[str, str], messages: Sequence[Message]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    properties = find_properties(tool)
    for name, form in forms.items():
        if is_free_string(properties.get(name, {})) and (spans := spans_of_form(form, messages)):
            yield name, {**properties[name], "enum": spans}


def find_optional(tool: Tool) -> set[str]:
    """The names of a tool's optional arguments; none where arguments are tied to each other."""
    tied = not _TIES.isdisjoint(tool.parameters)
    return set() if tied else set(find_properties(tool)) - set(tool.parameters.get("required", ()))
