"""A tool's schema narrowed by what the words of a request say: which optional arguments a call has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dualtune_mlx.decoding.places import leave_out
from dualtune_mlx.decoding.spans import child_path
from dualtune_mlx.decoding.word_classifier import WordReading
from dualtune_mlx.tools import Tool

SURE = 0.6
"""From which probability on the words decide; between it and its opposite the model does."""
_TIES = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "minProperties"))
"""What ties arguments to each other, so that one cannot be left out by itself."""


def narrow(tool: Tool, reading: WordReading) -> Tool:
    """The tool with the optional arguments required that are surely there, and without those that surely are not.

    Raises:
        ToolError: when its schema has a ``$ref`` and is not a valid JSON Schema.
    """
    optional = find_optional(tool)
    shares = {name: share for name, share in reading.arguments(tool.full_name).items() if name in optional}
    there = [name for name, share in shares.items() if share >= SURE]
    if there:
        required = [*tool.parameters.get("required", ()), *there]
        tool = replace(tool, parameters={**tool.parameters, "required": required})
    return leave_out(tool, {child_path("", name) for name, share in shares.items() if share <= 1 - SURE})


def find_optional(tool: Tool) -> dict[str, Any]:
    """The schemas of a tool's optional arguments by name; none where arguments are tied to each other."""
    properties = tool.parameters.get("properties")
    if not isinstance(properties, Mapping) or not _TIES.isdisjoint(tool.parameters):
        return {}
    required = tool.parameters.get("required", ())
    return {name: schema for name, schema in properties.items() if name not in required}
