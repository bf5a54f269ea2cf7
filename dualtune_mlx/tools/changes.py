"""What changed between the tools of a training and those that are visible now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.errors import escape_line
from dualtune_mlx.tools.types import Tool

SHOWN = 3
"""How many tools of a kind ``describe`` names."""


@dataclass(frozen=True)
class ToolChanges:
    """How the visible tools differ from those that a bundle was trained on."""

    untrained: tuple[Tool, ...] = ()
    """Visible tools that are new: no training saw them."""
    changed: tuple[Tool, ...] = ()
    """Visible tools that have another schema than in training; they are as they are now."""
    gone: tuple[Tool, ...] = ()
    """Tools of the training that are not visible."""

    def __bool__(self) -> bool:
        return bool(self.untrained or self.changed or self.gone)

    def describe(self) -> str:
        """The differences in a line; "" where there are none."""
        kinds = {"never trained": self.untrained, "schema changed": self.changed, "gone": self.gone}
        return "; ".join(f"{kind}: {_name_some(tools)}" for kind, tools in kinds.items() if tools)

    def to_dict(self) -> dict[str, Any]:
        """The differences as JSON: for each kind the servers and names of its tools."""
        kinds = {"untrained": self.untrained, "changed": self.changed, "gone": self.gone}
        return {kind: [{"server": tool.server, "name": tool.name} for tool in tools] for kind, tools in kinds.items()}


def compare_tools(trained: Iterable[Tool], visible: Iterable[Tool]) -> ToolChanges:
    """Compare visible tools with those of a training, by server and name.

    Where a side gives no server, the name alone counts.
    """
    trained, visible = tuple(trained), tuple(visible)
    pairs = [(tool, _find(tool, trained)) for tool in visible]
    found = {id(then) for _, then in pairs if then is not None}
    return ToolChanges(
        untrained=tuple(tool for tool, then in pairs if then is None),
        changed=tuple(tool for tool, then in pairs if then is not None and tool.parameters != then.parameters),
        gone=tuple(tool for tool in trained if id(tool) not in found),
    )


def find_reworded(before: Iterable[Tool], now: Iterable[Tool]) -> tuple[Tool, ...]:
    """The tools of now that have another description than before, and the same schema."""
    before = tuple(before)
    pairs = [(tool, _find(tool, before)) for tool in now]
    same_schema = [(tool, then) for tool, then in pairs if then is not None and tool.parameters == then.parameters]
    return tuple(tool for tool, then in same_schema if tool.description != then.description)


def _find(tool: Tool, trained: tuple[Tool, ...]) -> Tool | None:
    """The trained tool that a visible one is."""
    named = [one for one in trained if one.name == tool.name]
    exact = [one for one in named if one.server == tool.server]
    return next(iter(exact or [one for one in named if not (one.server and tool.server)]), None)


def _name_some(tools: tuple[Tool, ...]) -> str:
    names = [escape_line(tool.full_name) for tool in tools]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
