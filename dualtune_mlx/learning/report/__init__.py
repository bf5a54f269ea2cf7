"""The page ``report.html`` of a bundle that was learned."""

from dualtune_mlx.learning.report.page import LearnReport, render, write_report

__all__ = ["LearnReport", "render", "write_report"]
