"""The decisions of a trajectory: what training learns from and evaluation asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory


@dataclass(frozen=True)
class Step:
    """One decision: what was visible, and the call that followed."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    call: ToolCall


def steps(trajectory: Trajectory) -> Iterator[Step]:
    """Every decision of a trajectory; an answer in words is the choice of ``respond``."""
    for index, message in enumerate(trajectory.messages):
        if message.role != "assistant":
            continue
        before = trajectory.messages[:index]
        calls = message.tool_calls or (ToolCall(RESPOND.name),)
        for number, call in enumerate(calls):
            earlier = (replace(message, tool_calls=calls[:number]),) if number else ()
            yield Step((*before, *earlier), trajectory.tools, call)
