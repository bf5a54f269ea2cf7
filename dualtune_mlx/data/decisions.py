"""The decisions of a trajectory: training learns from them, evaluation asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from dualtune_mlx.tools import PLAN, RESPOND, Message, Tool, ToolCall, Trajectory


@dataclass(frozen=True)
class Decision:
    """One choice of a call, and what was known before it."""

    messages: tuple[Message, ...]
    """The conversation before the call."""
    tools: tuple[Tool, ...]
    """The visible tools."""
    call: ToolCall
    """The call that was made."""
    subtask: str = ""
    """The words of the request that the call is for; empty where the request is not divided."""
    today: str = ""
    """The date of the conversation; empty where it is not known."""


def call_decisions(trajectory: Trajectory) -> Iterator[Decision]:
    """Every decision of a trajectory about the next call.

    An answer in words is the choice of ``respond``. So is the end of a subtask that another subtask follows. A message
    of weight 0 decides nothing: it is only known before what follows.
    """
    subtask = ""
    for index, message in enumerate(trajectory.messages):
        if message.role == "user":
            subtask = ""
        if message.role != "assistant":
            continue
        before, ended = trajectory.messages[:index], subtask
        subtask = message.subtask if message.tool_calls else subtask
        if not message.weight:
            continue
        if ended and ended != subtask:
            yield Decision(before, trajectory.tools, ToolCall(RESPOND.name), ended, trajectory.today)
        calls = message.tool_calls or (ToolCall(RESPOND.name),)
        for number, call in enumerate(calls):
            earlier = (replace(message, tool_calls=calls[:number]),) if number else ()
            yield Decision((*before, *earlier), trajectory.tools, call, subtask, trajectory.today)


def ends_after_result(trajectory: Trajectory) -> bool:
    """Whether the trajectory teaches to end: somewhere behind a result no further call is made."""
    return any(one.call.is_respond and one.messages[-1].role == "tool" for one in call_decisions(trajectory))


def plan_decisions(trajectory: Trajectory) -> Iterator[Decision]:
    """How each request of a trajectory is divided into subtasks, as a call of ``PLAN``.

    A request without an answer is left out, and so is one of which nothing is learned: its own weight is 0, or that
    of all that the assistant did for it.
    """
    for index, message in enumerate(trajectory.messages):
        after = trajectory.messages[index + 1 :]
        if message.role == "user" and message.weight and _is_answered(after) and _is_learned(after):
            call = ToolCall(PLAN.name, {"parts": list(message.subtasks)})
            yield Decision(trajectory.messages[: index + 1], trajectory.tools, call)


def _is_answered(after: Sequence[Message]) -> bool:
    return bool(after) and after[0].role == "assistant"


def _is_learned(after: Sequence[Message]) -> bool:
    """Whether the assistant does something for a request that is learned; ``after`` is what follows the request."""
    turn = takewhile(lambda message: message.role != "user", after)
    return any(message.weight for message in turn if message.role == "assistant")
