"""Which string arguments of a stage the data copies, and the few values that grounding will not write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dualtune_mlx.bundle.assemble import tools_in_scope
from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.decoding import CopyReport, find_slips, report_copies, tool_key
from dualtune_mlx.errors import count_of
from dualtune_mlx.tools import PLAN, Tool, Trajectory
from dualtune_mlx.training.examples import decision_name, decisions_of_stage

SHOWN = 6
"""Slips that a note names."""


def report_stage_copies(stage: str, trajectories: Sequence[Trajectory], scope: str = "") -> tuple[CopyReport, str]:
    """Report which strings of a stage and a scope are copied from the conversation.

    Returns:
        The report, empty for a stage that chooses names; and a note about values that are no copies, though nearly
        all others of their parameter are: "" where there are none.
    """
    if stage not in ("planner", "arguments"):
        return CopyReport(), ""
    named = list(_named_decisions(stage, trajectories, scope))
    report = report_copies((decision for _, decision in named), _tools(stage, trajectories, scope))
    slips = [f"{name}, {path}" for name, decision in named for path in find_slips(decision, report.grounding)]
    if not slips:
        return report, ""
    more = f"; and {len(slips) - SHOWN:,} more" if len(slips) > SHOWN else ""
    listed = "; ".join(slips[:SHOWN]) + more
    counted = count_of(len(slips), "value")
    return report, f"grounding will not write {counted} that the conversation does not say, as it says others: {listed}"


def _tools(stage: str, trajectories: Sequence[Trajectory], scope: str) -> tuple[Tool, ...]:
    if stage == "planner":
        return (PLAN,)
    tools = {tool_key(tool): tool for trajectory in trajectories for tool in trajectory.tools}
    return tools_in_scope(scope, tools.values())


def _named_decisions(stage: str, trajectories: Sequence[Trajectory], scope: str) -> Iterator[tuple[str, Decision]]:
    """The decisions that the report is made of, each with its call's own tool among its tools."""
    for number, trajectory in enumerate(trajectories):
        for count, decision in decisions_of_stage(trajectory, stage, scope):
            tools = (PLAN,) if stage == "planner" else decision.tools
            yield decision_name(trajectory, number, count), replace(decision, tools=tools)
