"""Evaluation: which servers, tools and whole calls are right."""

from dualtune_mlx.evaluation.calls import Report, evaluate_calls

__all__ = ["Report", "evaluate_calls"]
