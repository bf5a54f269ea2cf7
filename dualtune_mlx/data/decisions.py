"""The decisions of a trajectory: what training learns from and evaluation asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.tools import PLAN, RESPOND, Message, Tool, ToolCall, Trajectory


@dataclass(frozen=True)
class Decision:
    """One decision: what was visible, the part of the request that was due ("" for all of it), and the call."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    call: ToolCall
    subtask: str = ""


def decisions(trajectory: Trajectory) -> Iterator[Decision]:
    """Every decision of a trajectory; an answer in words is the choice of ``respond``.

    So is the end of a part that another part follows.
    """
    subtask = ""
    for index, message in enumerate(trajectory.messages):
        if message.role == "user":
            subtask = ""
        if message.role != "assistant":
            continue
        before = trajectory.messages[:index]
        if subtask and message.tool_calls and message.subtask != subtask:
            yield Decision(before, trajectory.tools, ToolCall(RESPOND.name), subtask)
        subtask = message.subtask if message.tool_calls else subtask
        calls = message.tool_calls or (ToolCall(RESPOND.name),)
        for number, call in enumerate(calls):
            earlier = (replace(message, tool_calls=calls[:number]),) if number else ()
            yield Decision((*before, *earlier), trajectory.tools, call, subtask)


def plan_decisions(trajectory: Trajectory) -> Iterator[Decision]:
    """How every request of a trajectory is divided, as a call of ``PLAN``."""
    for index, message in enumerate(trajectory.messages):
        if message.role == "user" and _is_answered(trajectory.messages[index + 1 :]):
            call = ToolCall(PLAN.name, {"parts": list(message.subtasks)})
            yield Decision(trajectory.messages[: index + 1], trajectory.tools, call)


def _is_answered(after: Sequence[Message]) -> bool:
    return bool(after) and after[0].role == "assistant"
