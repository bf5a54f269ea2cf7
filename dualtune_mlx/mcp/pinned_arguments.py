"""Pinned arguments: the host fills them in, and the model never sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dualtune_mlx.tools import Tool


def hide_arguments(tool: Tool, pinned: Mapping[str, Any]) -> Tool:
    """Return the tool as a model sees it: without those of its arguments that are pinned."""
    schema = tool.parameters
    hidden = _pinned_for(tool, pinned).keys()
    if not hidden:
        return tool
    shown = dict(schema)
    shown["properties"] = {name: value for name, value in schema["properties"].items() if name not in hidden}
    if "required" in schema:
        shown["required"] = [name for name in schema["required"] if name not in hidden]
    return replace(tool, parameters=shown)


def fill_pinned(arguments: Mapping[str, Any], tool: Tool, pinned: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the pinned ones that the tool takes. A pinned value always wins."""
    return {**arguments, **_pinned_for(tool, pinned)}


def argument_names(tools: Iterable[Tool]) -> list[str]:
    """The names of all the arguments of all the tools."""
    return [name for tool in tools for name in tool.parameters.get("properties", {})]


def _pinned_for(tool: Tool, pinned: Mapping[str, Any]) -> dict[str, Any]:
    properties = tool.parameters.get("properties", {})
    return {name: value for name, value in pinned.items() if name in properties}
