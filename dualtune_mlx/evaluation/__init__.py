"""Evaluation: suites and metrics."""

from dualtune_mlx.evaluation.calls import Report, evaluate_calls

__all__ = ["Report", "evaluate_calls"]
