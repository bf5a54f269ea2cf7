"""Trajectories to training examples: every assistant turn is one target of its stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualtune_mlx.data.steps import Step, steps
from dualtune_mlx.errors import DataError
from dualtune_mlx.prompts import Prompt, Stream
from dualtune_mlx.tools import Trajectory


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


def stage_examples(trajectories: Sequence[Trajectory], prompt: Prompt, stage: str, activation: str) -> list[Example]:
    """All examples of a stage.

    Raises:
        DataError: when there is none.
    """
    found = [
        example(prompt.stream(step.messages, step.tools, step.call), stage, activation)
        for trajectory in trajectories
        for step in steps(trajectory)
        if stage == "selector" or _writes_arguments(step)
    ]
    if not found:
        raise DataError(
            f"the data holds no example for the stage {stage!r}",
            got=f"{len(trajectories)} trajectories",
            expected="assistant messages with tool_calls",
        )
    return found


def _writes_arguments(step: Step) -> bool:
    return any(tool.name == step.call.name and tool.takes_arguments for tool in step.tools)


def example(stream: Stream, stage: str, activation: str) -> Example:
    """A stream as an example of one stage."""
    span = stream.last(stage)
    return Example(stream.tokens[: span.end], stream.activation(activation), span.start)
