"""Which tools a user is asked about, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.lexical import split_words

NO_TOOL = 5
"""Every fifth request is one that no tool serves."""


def order_tools(
    tools: Sequence[Tool], before: Sequence[Mapping[str, Any]], skipped: Sequence[tuple[str, str]], count: int
) -> list[Tool | None]:
    """The tools to ask about, one a request; None for a request that no tool serves.

    All get a turn before one gets a second. Of those that are due, the ones that are easily confused come first.

    Args:
        tools: all tools.
        before: the requests that there are, as lines of a data file.
        skipped: the servers and names of tools that the user did not want; they come last.
        count: how many requests there are to be, with those of before.
    """
    turns = Counter(_key(call) for line in before for call in _list_calls(line))
    turns.update(skipped)
    confusion = dict(zip(map(_tool_key, tools), measure_confusion(tools), strict=True))
    order: list[Tool | None] = []
    for number in range(len(before) + 1, count + 1):
        if number % NO_TOOL == 0 or not tools:
            order.append(None)
            continue
        tool = min(tools, key=lambda one: (turns[_tool_key(one)], -confusion[_tool_key(one)]))
        turns[_tool_key(tool)] += 1
        order.append(tool)
    return order


def measure_confusion(tools: Sequence[Tool]) -> list[float]:
    """How much each tool's words are those of the tool that is most like it, from 0 to 1."""
    words = [frozenset(split_words(f"{tool.name} {tool.description}")) for tool in tools]
    return [max((_overlap(one, other) for other in words if other is not one), default=0.0) for one in words]


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def _list_calls(line: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [call for message in line["messages"] for call in message.get("tool_calls", ())]


def _key(call: Mapping[str, Any]) -> tuple[str, str]:
    return str(call.get("server", "")), str(call["function"]["name"])


def _tool_key(tool: Tool) -> tuple[str, str]:
    return tool.server, tool.name
