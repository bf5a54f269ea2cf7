"""What follows a call: the tool's answer, and the assistant's own words for it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from dualtune_mlx.synthesis import results
from dualtune_mlx.synthesis.dialogue import Dialogue
from dualtune_mlx.tools import Trajectory

ANSWER_EVERY = 16
"""Of so many calls, one goes on: a model that never sees a result does not learn to end."""
FAILED_SHARE = 0.2
"""The share of failures among the calls that go on: the end comes after a failure too."""


def answer_calls(trajectories: Sequence[Trajectory], every: int, rng: random.Random) -> Iterator[Trajectory]:
    """The trajectories of a request and its call, of which every so many go on: with a result, and a final answer.

    Raises:
        DataError: when the answers of a tool are not known.
    """
    calls = 0
    for trajectory in trajectories:
        made = trajectory.messages[-1].tool_calls
        yield _go_on(trajectory, rng) if made and calls % every == 0 else trajectory
        calls += len(made)


def _go_on(trajectory: Trajectory, rng: random.Random) -> Trajectory:
    request, asked = trajectory.messages
    answers = tuple(results.success_text(call, rng) for call in asked.tool_calls)
    dialogue = Dialogue(request.content, asked.tool_calls, answers)
    failed = rng.random() < FAILED_SHARE
    return (dialogue.with_failure(rng) if failed else dialogue).to_trajectory(trajectory.tools, rng)
