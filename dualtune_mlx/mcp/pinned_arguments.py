"""Pinned arguments: the host fills them in, and the model never sees them. Nor does it see forbidden ones."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.rules import forbidden_arguments
from dualtune_mlx.mcp.settled_schema import find_argument_names, settle_arguments
from dualtune_mlx.tools import Tool


def show_tool(config: ServerConfig, tool: Tool) -> Tool:
    """Return a server's tool as a model sees it.

    Raises:
        UsageError, ToolError: as ``hide_arguments`` does.
    """
    return hide_arguments(tool, config.pinned, forbidden_arguments(config.rules, tool))


def hide_arguments(tool: Tool, pinned: Mapping[str, Any], forbidden: Set[str] = frozenset()) -> Tool:
    """Return the tool as a model sees it: without those of its arguments that are pinned or forbidden.

    Raises:
        UsageError: when no call of the tool fits the pinned values, or does without the forbidden arguments.
        ToolError: when its schema cannot be read.
    """
    names = find_argument_names(tool.parameters)
    given = {name: value for name, value in pinned.items() if name in names}
    absent = forbidden & names
    return settle_arguments(tool, given, absent) if given or absent else tool


def fill_pinned(arguments: Mapping[str, Any], tool: Tool, pinned: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the pinned ones that the tool takes.

    A pinned value always wins, also where the tool takes arguments of any name and does not list this one.
    """
    names = {*find_argument_names(tool.parameters), *arguments} if pinned else set()
    return {**arguments, **{name: value for name, value in pinned.items() if name in names}}
