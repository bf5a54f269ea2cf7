"""What learning will do, how long it takes and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from dualtune_mlx.errors import count_of
from dualtune_mlx.learning.options import LearnOptions
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.changes import ToolChanges


@dataclass(frozen=True)
class LearnPlan:
    """What will be done."""

    tools: tuple[Tool, ...]
    """The tools that the bundle is for."""
    options: LearnOptions
    changes: ToolChanges | None = None
    """How the tools differ from those that the bundle knows; None for a new bundle."""
    start: str = ""
    """The bundle whose adapters training goes on from; "" where it begins from nothing."""
    own: int = 0
    """How many requests of the user's own there are to measure with."""
    more: int = 0
    """How many requests are given, to be learned beside those that are made."""
    teacher: str = ""
    """The teacher that words requests, and what it may cost; "" for our own generator."""

    def describe(self) -> list[str]:
        """The plan, a sentence each."""
        servers = {tool.server for tool in self.tools}
        options = self.options
        lines = [f"{count_of(len(self.tools), 'tool')} of {count_of(len(servers), 'server')}; model {options.model}"]
        if self.changes:
            lines.append(f"since the bundle was trained: {self.changes.describe()}")
        by = f"by {self.teacher}" if self.teacher else "on this machine; nothing leaves it"
        lines.append(f"about {options.requests:,} requests are worded {by}")
        if self.more:
            lines.append(f"{count_of(self.more, 'request')} that you give are learned beside them")
        start = ", from adapters that know what tools are" if self.start else ""
        lines.append(f"a selector and arguments are trained{start}; all of it takes about {options.minutes:g} minutes")
        lines.append(self._measure())
        return lines

    def _measure(self) -> str:
        if self.own:
            return f"measured on {count_of(self.own, 'request')} of your own, before and after"
        return (
            f"measured on up to {self.options.most_measured} requests that are held out; they are worded like those of "
            "the training. Your own requests tell more: dualtune data ask"
        )
