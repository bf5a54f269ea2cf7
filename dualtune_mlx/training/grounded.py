"""The grounding of a stage's arguments, and the few values that it will not write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.decoding import Grounding, find_slips, learn_grounding
from dualtune_mlx.tools import PLAN, Trajectory
from dualtune_mlx.training.examples import decision_name, decisions_of_stage

SHOWN = 6
"""Slips that a note names."""


def learn_stage_grounding(stage: str, trajectories: Sequence[Trajectory]) -> tuple[Grounding, str]:
    """Learn which arguments of a stage are copied from the conversation.

    Returns:
        The grounding, empty for a stage that chooses names; and a note about values that are no copies, though nearly
        all others of their parameter are: "" where there are none.
    """
    named = list(_named_decisions(stage, trajectories))
    grounding = learn_grounding(decision for _, decision in named)
    slips = [f"{name}, {path}" for name, decision in named for path in find_slips(decision, grounding)]
    if not slips:
        return grounding, ""
    more = f"; and {len(slips) - SHOWN:,} more" if len(slips) > SHOWN else ""
    listed = "; ".join(slips[:SHOWN]) + more
    return (
        grounding,
        f"{len(slips):,} values are no copies as nearly all others are, and grounding holds them: {listed}",
    )


def _named_decisions(stage: str, trajectories: Sequence[Trajectory]) -> Iterator[tuple[str, Decision]]:
    """The decisions that the grounding is learned from, each with its call's own tool among its tools."""
    if stage not in ("planner", "arguments"):
        return
    for number, trajectory in enumerate(trajectories):
        for count, decision in decisions_of_stage(trajectory, stage):
            tools = (PLAN,) if stage == "planner" else decision.tools
            yield decision_name(trajectory, number, count), replace(decision, tools=tools)
