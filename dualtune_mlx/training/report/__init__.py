"""The report of a run: what it says, and the page that shows it."""

from dualtune_mlx.training.report.contents import make_report, token_kinds
from dualtune_mlx.training.report.page import Report, render, write_report

__all__ = ["Report", "make_report", "render", "token_kinds", "write_report"]
