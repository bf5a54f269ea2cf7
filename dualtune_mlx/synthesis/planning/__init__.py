"""Calls planned before they are worded: arguments drawn from tools' schemas."""

from dualtune_mlx.synthesis.planning.calls import Planner, plan_calls
from dualtune_mlx.synthesis.planning.contrast import find_confusable, plan_contrasts

__all__ = ["Planner", "find_confusable", "plan_calls", "plan_contrasts"]
