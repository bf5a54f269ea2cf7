"""The places of a schema, each with the path of the parameter that stands there."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from dualtune_mlx.decoding.spans import child_path
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.references import keep_references

CONSTRAINTS = frozenset(
    ("enum", "const", "pattern", "format", "minLength", "maxLength", "$ref", "anyOf", "allOf", "oneOf", "not", "if")
)

Change = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Gives what shall stand at a place, from its path and from what stands there."""


def change_places(schema: Any, change: Change, path: str = "") -> Any:
    """The schema with every place changed, the inner ones first. What a ``$ref`` leads to is no place of its own."""
    if not isinstance(schema, Mapping):
        return schema
    changed = dict(schema)
    if isinstance(schema.get("properties"), Mapping):
        changed["properties"] = {
            name: change_places(item, change, child_path(path, name)) for name, item in schema["properties"].items()
        }
    if "items" in schema:
        changed["items"] = change_places(schema["items"], change, f"{path}[]")
    if isinstance(schema.get("anyOf"), list):
        changed["anyOf"] = [change_places(item, change, path) for item in schema["anyOf"]]
    return change(path, changed)


def leave_out(tool: Tool, paths: Container[str]) -> Tool:
    """The tool without the optional parameters at some paths.

    Raises:
        ToolError: when its schema has a ``$ref`` and is not a valid JSON Schema.
    """

    def drop(path: str, schema: dict[str, Any]) -> dict[str, Any]:
        optional = {*schema.get("properties", ())} - {*schema.get("required", ())}
        dropped = {name: False for name in optional if child_path(path, name) in paths}
        return {**schema, "properties": {**schema["properties"], **dropped}} if dropped else schema

    changed = change_places(tool.parameters, drop)
    return replace(tool, parameters=keep_references(changed, tool)) if changed != tool.parameters else tool


def find_properties(tool: Tool) -> dict[str, Mapping[str, Any]]:
    """The schemas of a tool's arguments by name, but for those that take everything or nothing."""
    properties = tool.parameters.get("properties")
    found = properties.items() if isinstance(properties, Mapping) else ()
    return {name: schema for name, schema in found if isinstance(schema, Mapping)}


def free_strings(tool: Tool) -> list[str]:
    """The paths of the strings that may be anything, so that they can be held to some values."""
    found: dict[str, None] = {}

    def collect(path: str, schema: dict[str, Any]) -> dict[str, Any]:
        if is_free_string(schema):
            found[path] = None
        return schema

    change_places(tool.parameters, collect)
    return list(found)


def is_free_string(schema: Mapping[str, Any]) -> bool:
    """Whether a place takes any string, and nothing else but null."""
    types = list_types(schema)
    return "string" in types and types <= {"string", "null"} and CONSTRAINTS.isdisjoint(schema)


def list_types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a place may have."""
    kinds = schema.get("type")
    return {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)}
