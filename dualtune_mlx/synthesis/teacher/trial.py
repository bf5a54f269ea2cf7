"""A teacher is tried on the user's own requests before it makes data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.data import read_split
from dualtune_mlx.errors import UsageError
from dualtune_mlx.synthesis.teacher.asking import Asker, Unanswered
from dualtune_mlx.synthesis.teacher.budget import BudgetSpent
from dualtune_mlx.synthesis.teacher.choosing import NONE, ask_for_tool, read_choice
from dualtune_mlx.tools import Tool, Trajectory, find_called_tool

ENOUGH = 0.7
"""The share of right tools from which on a teacher is good enough."""


@dataclass(frozen=True)
class Trial:
    """How a teacher did on the user's own requests."""

    right: int
    """Requests for which it chose the right tool."""
    asked: int
    """Requests that it was asked about."""

    @property
    def passed(self) -> bool:
        """Whether it is good enough, or there is nothing to try it on."""
        return self.right >= ENOUGH * self.asked


async def try_teacher(folder: Path, tools: Sequence[Tool], asker: Asker) -> Trial:
    """Ask a teacher for the tool of each request in ``test.jsonl``. An answer that does not come is a wrong one.

    Raises:
        DataError, ToolError: when the file cannot be read.
        UsageError: when the budget is spent before all are asked.
        EndpointError: when the teacher fails at question after question.
    """
    path = folder / "test.jsonl"
    cases = [case for one in read_split(folder, "test") for case in _read_case(one, tools)] if path.exists() else []
    try:
        chosen = await asyncio.gather(*(_choose(text, tools, asker) for text, _ in cases))
    except BudgetSpent as error:
        raise UsageError(
            "the budget is spent before the teacher was tried on your own requests",
            got=error,
            expected=f"enough for {len(cases)} questions",
            fix="raise the limit",
        ) from error
    return Trial(sum(one == right for one, (_, right) in zip(chosen, cases, strict=True)), len(cases))


async def _choose(text: str, tools: Sequence[Tool], asker: Asker) -> Tool | str:
    try:
        return read_choice((await asker.ask(ask_for_tool(text, tools))).text, tools)
    except Unanswered:
        return ""


def _read_case(trajectory: Trajectory, tools: Sequence[Tool]) -> list[tuple[str, Tool | str]]:
    """The first request of a conversation with its right tool; none where it is divided into several."""
    messages = [message for message in trajectory.messages if message.role != "system"]
    if [message.role for message in messages[:2]] != ["user", "assistant"]:
        return []
    request, reply = messages[:2]
    if request.subtasks or len(reply.tool_calls) > 1:
        return []
    calls = [call for call in reply.tool_calls if not call.is_respond]
    return [(request.content, find_called_tool(calls[0], tools) if calls else NONE)]
