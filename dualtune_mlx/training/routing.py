"""What a stage is shown at a decision: all tools, or the choices at one node of their hierarchy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.errors import DataError
from dualtune_mlx.tools import PLAN, Tool, ToolCall, find_called_tool
from dualtune_mlx.tools.hierarchy import Node, hierarchy


@dataclass(frozen=True)
class ShownDecision:
    """A decision as a stage sees it."""

    shown: tuple[Tool, ...]
    """The choices: tools, or servers and groups as tools."""
    decision: Decision
    """The decision, whose call names the right choice."""


def shown_decisions(decision: Decision, stage: str, hierarchical: bool, number: int = 0) -> Iterator[ShownDecision]:
    """What a stage learns from a decision.

    * A planner is shown only ``PLAN``.
    * A router learns a choice at every node above the tool. From one server without groups it learns nothing.
    * A selector and an argument adapter are shown all tools or, when ``hierarchical``, those of the tool's own node.

    Every node also offers ``respond``. A router learns it at the root. A hierarchical selector learns it at the node
    of the last call; before any call, at the node that ``number`` gives: trajectories take all nodes in turn.

    Raises:
        DataError: when one of several servers has no name.
    """
    if stage == "planner":
        yield ShownDecision((PLAN,), decision)
        return
    if stage != "router" and not hierarchical:
        yield ShownDecision(decision.tools, decision)
        return
    tree = hierarchy(decision.tools)
    if stage == "router":
        _check_names(decision.tools)
        yield from _router_views(decision, tree)
    else:
        yield ShownDecision(
            (
                _node_to_respond_at(decision, tree, number)
                if decision.call.is_respond
                else _node_of_call(decision, tree)
            ).cards,
            decision,
        )


def _router_views(decision: Decision, tree: Node) -> Iterator[ShownDecision]:
    if decision.call.is_respond:
        if tree.routes:
            yield ShownDecision(tree.cards, decision)
        return
    for node, child in pairwise(tree.path(find_called_tool(decision.call, decision.tools))):
        yield ShownDecision(node.cards, replace(decision, call=ToolCall(child.label)))


def _node_of_call(decision: Decision, tree: Node) -> Node:
    return tree.node_of(find_called_tool(decision.call, decision.tools))


def _node_to_respond_at(decision: Decision, tree: Node, number: int) -> Node:
    calls = [call for message in decision.messages for call in message.tool_calls]
    if calls:
        return tree.node_of(find_called_tool(calls[-1], decision.tools))
    asked = [node for node in tree.nodes if not node.routes]
    return asked[number % len(asked)]


def _check_names(tools: tuple[Tool, ...]) -> None:
    servers = dict.fromkeys(tool.server for tool in tools)
    if len(servers) > 1 and "" in servers:
        raise DataError(
            "a router cannot choose a server without a name",
            got=", ".join(map(repr, servers)),
            expected='tools each with their "server"',
            fix="name the servers, or train selector and arguments only: a selector needs no router",
        )
