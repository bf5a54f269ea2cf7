"""Evaluation: which servers, tools and whole calls are right."""

from dualtune_mlx.evaluation.calls import Report, evaluate_calls
from dualtune_mlx.evaluation.evidence import fit_bundle

__all__ = ["Report", "evaluate_calls", "fit_bundle"]
