"""A request with its calls and their results, and the trajectory that they make."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.subtask_markup import distinct_subtasks
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory

ANSWERS = read_toml("answers.toml")
"""The assistant's last words, by how the calls went: ``done`` or ``failed``."""


@dataclass(frozen=True)
class Dialogue:
    """A request, the calls that it needs, and what the tools answer."""

    request: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]
    """The answer to each call."""
    subtasks: tuple[str, ...] = ()
    """For each call, the words of the request that ask for it; empty where the request is not divided."""
    failed: bool = False
    """Whether the last call failed."""
    open_ended: bool = False
    """Whether the request ends in bare words of a value, so that no words may follow it."""

    def with_failure(self, rng: random.Random) -> Dialogue:
        """The same request, but its first or second call fails, and no call follows."""
        last = rng.randrange(min(2, len(self.calls)))
        answers = (*self.results[:last], results.failure_text(self.calls[last], rng))
        return replace(self, calls=self.calls[: last + 1], results=answers, failed=True)

    def to_trajectory(self, tools: tuple[Tool, ...], rng: random.Random) -> Trajectory:
        """The whole conversation: request, calls and results, and an answer in words."""
        distinct = distinct_subtasks(self.subtasks)
        messages = [Message("user", self.request, subtasks=distinct)]
        subtasks = self.subtasks[: len(self.calls)] if distinct else [""] * len(self.calls)  # fewer after a failure
        for call, result, subtask in zip(self.calls, self.results, subtasks, strict=True):
            messages += [Message("assistant", "", (call,), subtask=subtask), Message("tool", result)]
        answer = rng.choice(ANSWERS["failed" if self.failed else "done"])
        return Trajectory((*messages, Message("assistant", answer)), tools)
