"""Decisions of a data set that a stage does not learn, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dualtune_mlx.tools import Trajectory, find_called_tool
from dualtune_mlx.training.examples import decisions_of_stage

WEIGHTLESS, WITHOUT_PARAMETERS = "of weight 0", "of tools without parameters"


def count_left_out(trajectories: Sequence[Trajectory], stage: str, scope: str = "") -> dict[str, int]:
    """How many decisions a stage does not learn, by reason; a reason without any is left out.

    Those that are longer than the window are counted by ``stage_examples``.
    """
    weightless = sum(
        _count(_with_weights(one), stage, scope) - _count(one, stage, scope)
        for one in trajectories
        if not all(message.weight for message in one.messages)
    )
    counts = {WEIGHTLESS: weightless}
    if stage == "arguments":
        called = (
            find_called_tool(decision.call, decision.tools)
            for one in trajectories
            for _, decision in decisions_of_stage(one, "selector", scope)
            if not decision.call.is_respond
        )
        counts[WITHOUT_PARAMETERS] = sum(not tool.takes_arguments for tool in called)
    return {reason: count for reason, count in counts.items() if count}


def describe_left_out(counts: Mapping[str, int]) -> str:
    """The counts in words; "" where nothing is left out."""
    return "left out: " + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) if counts else ""


def _with_weights(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, messages=tuple(replace(message, weight=1) for message in trajectory.messages))


def _count(trajectory: Trajectory, stage: str, scope: str) -> int:
    return sum(1 for _ in decisions_of_stage(trajectory, stage, scope))
