"""Trajectories to training examples: every assistant turn is one target of its stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dualtune_mlx.errors import DataError
from dualtune_mlx.prompts import Prompt, Stream
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory

STAGES = ("selector", "arguments")


@dataclass(frozen=True)
class Step:
    """One decision in a trajectory: what was visible, and the call that followed."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    call: ToolCall


@dataclass(frozen=True)
class Example:
    """A stream up to the end of what is learned, as token ids.

    The adapter acts from ``active`` on; the tokens from ``start`` to the end are the targets.
    """

    tokens: tuple[int, ...]
    active: int
    start: int

    @property
    def targets(self) -> int:
        return len(self.tokens) - self.start


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


def stage_examples(trajectories: Sequence[Trajectory], prompt: Prompt, stage: str, activation: str) -> list[Example]:
    """All examples of a stage.

    Raises:
        DataError: when there is none.
    """
    found = [
        example(prompt.stream(step.messages, step.tools, step.call), stage, activation)
        for trajectory in trajectories
        for step in steps(trajectory)
        if stage == "selector" or not step.call.is_respond
    ]
    if not found:
        raise DataError(
            f"the data holds no example for the stage {stage!r}",
            got=f"{len(trajectories)} trajectories",
            expected="assistant messages with tool_calls",
        )
    return found


def example(stream: Stream, stage: str, activation: str) -> Example:
    """A stream as an example of one stage."""
    span = stream.last(stage)
    return Example(stream.tokens[: span.end], stream.activation(activation), span.start)
