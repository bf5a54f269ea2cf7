"""A request in words, with the calls that are right for it: what every source of synthetic data makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory

ANSWER = "I have no tool for that."
"""What the assistant says where no tool serves the request and the request has no answer of its own."""


@dataclass(frozen=True)
class WordedRequest:
    """A request and the right calls for it."""

    text: str
    """What the user says."""
    calls: tuple[ToolCall, ...]
    """The right calls, in order; none where no tool serves the request."""
    source: str
    """Who worded it: ``generator``, ``teacher``, ``handwritten`` or ``user``."""
    style: str
    """How it is worded: ``imperative``, ``question``, ``terse``, …"""
    family: str
    """What requests of one wording share. A family is never divided between two splits."""
    subtasks: tuple[str, ...] = ()
    """The words of the request that each call is for, in order; none where it is one as a whole."""
    today: str = ""
    """The date of the conversation; "" for none."""
    answer: str = ANSWER
    """The assistant's last words: where no tool serves the request, or behind results."""
    results: tuple[str, ...] = ()
    """What the tools answered to the calls, where the conversation goes on; fewer where a call failed."""

    def to_trajectory(self, tools: Sequence[Tool]) -> Trajectory:
        """The request and the assistant's message for it, as a conversation with these visible tools.

        Calls of a divided request come in messages of their own, one for each subtask; so do calls with results.
        """
        request = Message("user", self.text, subtasks=self.subtasks)
        if not self.calls:
            replies = [Message("assistant", self.answer)]
        elif self.results:
            subtasks = self.subtasks or ("",) * len(self.calls)
            replies = []
            for call, result, subtask in zip(self.calls, self.results, subtasks, strict=False):
                replies += [Message("assistant", "", (call,), subtask=subtask), Message("tool", result)]
            replies.append(Message("assistant", self.answer))
        elif self.subtasks:
            pairs = zip(self.calls, self.subtasks, strict=True)
            replies = [Message("assistant", "", (call,), subtask=subtask) for call, subtask in pairs]
        else:
            replies = [Message("assistant", "", self.calls)]
        return Trajectory((request, *replies), tuple(tools), today=self.today)

    def to_line(self) -> dict[str, Any]:
        """The request as a line of a data file beside whose ``tools.json`` it lies; where it is from is metadata."""
        origin = {"source": self.source, "style": self.style, "family": self.family}
        return {**self.to_trajectory(()).to_dict(with_tools=False), "metadata": origin}
