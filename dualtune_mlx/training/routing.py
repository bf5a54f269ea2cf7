"""The router's examples: the same decisions, among servers instead of tools."""

from __future__ import annotations

from dataclasses import replace

from dualtune_mlx.data.steps import Step
from dualtune_mlx.errors import DataError
from dualtune_mlx.hierarchy import hierarchy
from dualtune_mlx.tools import Tool, ToolCall, tool_called


def server_cards(tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """One choice a server, described by the names of its tools.

    Raises:
        DataError: when there are fewer than two servers, or a tool does not say which one it belongs to.
    """
    names = dict.fromkeys(tool.server for tool in tools)
    if len(names) < 2 or "" in names:
        raise DataError(
            "a router has no servers to choose among",
            got=", ".join(repr(name) for name in names),
            expected='tools of at least two servers, each with its "server"',
            fix="train selector and arguments only: a selector needs no router",
        )
    return hierarchy(tools).cards


def routed(step: Step) -> tuple[tuple[Tool, ...], Step]:
    """The servers to choose among, and the step with the server in place of the call."""
    cards = server_cards(step.tools)
    if step.call.is_respond:
        return cards, step
    return cards, replace(step, call=ToolCall(tool_called(step.call, step.tools).server))
