"""Calls planned before they are worded: arguments drawn from tools' schemas."""

from dualtune_mlx.synthesis.planning.calls import Planner, plan_calls

__all__ = ["Planner", "plan_calls"]
