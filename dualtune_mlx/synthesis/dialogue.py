"""A request with its calls and their results, and the conversation that they make."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.subtask_markup import in_order
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory

_ANSWERS = read_toml("answers.toml")


@dataclass(frozen=True)
class Dialogue:
    """A request, the calls that it needs, and what the tools say to each; ``failed`` where the last call failed.

    ``subtasks`` are the words of the request that each call is for; none where it is one as a whole. The request is
    ``open_ended`` where it ends in bare words that nothing may follow.
    """

    request: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]
    subtasks: tuple[str, ...] = ()
    failed: bool = False
    open_ended: bool = False

    def failing(self, rng: random.Random) -> Dialogue:
        """The same request, one of whose first two calls fails, so that nothing comes after it."""
        last = rng.randrange(min(2, len(self.calls)))
        told = (*self.results[:last], results.failed(self.calls[last], rng))
        return replace(self, calls=self.calls[: last + 1], results=told, failed=True)

    def trajectory(self, tools: tuple[Tool, ...], rng: random.Random) -> Trajectory:
        """The conversation, which ends with an answer in words."""
        subtasks = in_order(self.subtasks)
        messages = [Message("user", self.request, subtasks=subtasks)]
        for_calls = self.subtasks[: len(self.calls)] if subtasks else [""] * len(self.calls)  # fewer where one failed
        for call, result, subtask in zip(self.calls, self.results, for_calls, strict=True):
            messages += [Message("assistant", "", (call,), subtask=subtask), Message("tool", result)]
        answer = rng.choice(_ANSWERS["failed" if self.failed else "done"])
        return Trajectory((*messages, Message("assistant", answer)), tools)
