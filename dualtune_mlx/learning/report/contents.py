"""What the page says: what was right before and after, tool by tool, and what was wrong."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.evaluation.calls import same_json

RESPOND = "no tool"


@dataclass(frozen=True)
class ToolRow:
    """How often the calls of one tool were right."""

    tool: str
    """The tool's label, or ``RESPOND`` for the requests that no tool serves."""
    asked: int
    before: int
    """Right tools before."""
    after: int
    """Right tools after."""
    calls: int
    """Whole calls right after."""


@dataclass(frozen=True)
class WrongCall:
    """A request whose call was wrong after training."""

    request: str
    right: str
    """The right call, in a line."""
    made: str
    """The call that was made, in a line; its tool alone where that is wrong already."""
    tool_is_right: bool


def tool_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[ToolRow]:
    """A row for each tool that was asked for, the least right ones first."""
    earlier = _by_tool(before["examples"])
    rows = [
        ToolRow(
            tool,
            len(found),
            _count(earlier[tool], is_tool_right),
            _count(found, is_tool_right),
            _count(found, is_right),
        )
        for tool, found in _by_tool(after["examples"]).items()
    ]
    return sorted(rows, key=lambda row: (row.calls / row.asked, row.after / row.asked, row.tool))


def wrong_calls(after: Mapping[str, Any]) -> Iterator[WrongCall]:
    """The examples that are wrong, in their order."""
    for example in after["examples"]:
        if not is_right(example):
            tool_is_right = is_tool_right(example)
            made = to_line(example["predicted"]) if tool_is_right else label(example["predicted"])
            yield WrongCall(example["request"], to_line(example["gold"]), made, tool_is_right)


def is_tool_right(example: Mapping[str, Any]) -> bool:
    """Whether the right tool was chosen."""
    return label(example["gold"]) == label(example["predicted"])


def is_right(example: Mapping[str, Any]) -> bool:
    """Whether the whole call is right."""
    arguments = (example[name]["arguments"] for name in ("gold", "predicted"))
    return is_tool_right(example) and "failure" not in example and same_json(*arguments)


def label(call: Mapping[str, Any]) -> str:
    """The tool of a call: ``server/tool``, or ``RESPOND``."""
    if not call["server"] and call["name"] == "respond":
        return RESPOND
    return f"{call['server']}/{call['name']}" if call["server"] else call["name"] or "none"


def to_line(call: Mapping[str, Any]) -> str:
    """A call in a line."""
    if label(call) == RESPOND:
        return RESPOND
    written = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call["arguments"].items())
    return f"{call['name']}({written})"


def _by_tool(examples: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for example in examples:
        found[label(example["gold"])].append(example)
    return found


def _count(examples: Iterable[Mapping[str, Any]], is_so: Callable[[Mapping[str, Any]], bool]) -> int:
    return sum(map(is_so, examples))
