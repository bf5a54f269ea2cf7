"""What is counted of lines: calls of each tool, optional arguments, lengths."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dualtune_mlx.tools import RESPOND, Tool, Trajectory, find_called_tool


@dataclass
class Counts:
    """Counts of the lines of a split. Those of several processes are added."""

    lines: int = 0
    """Lines that can be read."""
    tools: Counter[str] = field(default_factory=Counter)
    """The calls of each visible tool, and of ``respond``; 0 where it is never called."""
    optional: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each optional argument of a tool that is called is given; 0 where it never is."""
    lengths: Counter[int] = field(default_factory=Counter)
    """How many lines have a length."""

    def add(self, other: Counts) -> None:
        """Add the counts of other lines."""
        self.lines += other.lines
        for name in ("tools", "optional", "lengths"):
            getattr(self, name).update(getattr(other, name))

    def add_line(self, trajectory: Trajectory, length: int) -> None:
        """Add a line of a length."""
        self.lines += 1
        self.lengths[length] += 1
        self.tools.update(dict.fromkeys((tool.full_name for tool in trajectory.tools), 0))
        for message in trajectory.messages:
            if message.role != "assistant" or not message.weight:
                continue
            self.tools[RESPOND.name] += not message.tool_calls
            for call in message.tool_calls:
                tool = find_called_tool(call, trajectory.tools)
                self.tools[tool.full_name] += 1
                for name in list_optional(tool):
                    self.optional[tool.full_name, name] += name in call.arguments


def list_optional(tool: Tool) -> list[str]:
    """The arguments that a tool does not require."""
    required = tool.parameters.get("required", ())
    return [name for name in tool.parameters.get("properties", {}) if name not in required]


def count_words(trajectory: Trajectory) -> int:
    """The words of a conversation and of its tools' names and descriptions."""
    texts = [message.content for message in trajectory.messages]
    texts += [
        str(value)
        for message in trajectory.messages
        for call in message.tool_calls
        for value in call.arguments.values()
    ]
    return sum(len(text.split()) for text in texts) + sum(
        1 + len(tool.description.split()) for tool in trajectory.tools
    )
