"""The page itself. Requests, calls and names of tools are untrusted (``dualtune_mlx.pages``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.files import write_text
from dualtune_mlx.learning.report.contents import RESPOND, tool_rows, wrong_calls
from dualtune_mlx.pages import open_template

LONG = 30  # rows; a longer list is folded


@dataclass(frozen=True)
class LearnReport:
    """What the page says of a bundle."""

    title: str
    model: str
    facts: Mapping[str, str]
    """What else is to be known, by name."""
    before: Mapping[str, Any]
    """The report of ``evaluate_calls`` before training."""
    after: Mapping[str, Any]
    """The same after it, on the same requests."""
    measured_on: str
    """``own`` requests of the user, or ``held out`` ones."""
    rejected: Mapping[str, int]
    """Requests that filters refused, by filter."""
    runs: Sequence[str]
    """Where the reports of the training runs lie, seen from the page."""


def write_report(path: Path, report: LearnReport) -> None:
    """Write the page, atomically."""
    write_text(path, render(report))


def render(report: LearnReport) -> str:
    """The page as HTML."""
    return open_template("dualtune_mlx.learning.report", "report.html.jinja").render(
        report=report,
        colour="selector",
        figures=list(_figures(report)),
        rows=tool_rows(report.before, report.after),
        wrong=list(wrong_calls(report.after)),
        long=LONG,
    )


def _figures(report: LearnReport) -> list[tuple[str, str, str]]:
    """(title, value, note) of each figure."""
    n = report.after["n"]
    found = []
    for title, metric in (("Right tool", "tool"), ("Whole call right", "call")):
        low, high = report.after["intervals"][metric]
        note = f"{report.before[metric]:.0%} before; 95% interval {low:.0%} to {high:.0%}"
        found.append((title, f"{report.after[metric]:.0%}", note))
    none = [row for row in tool_rows(report.before, report.after) if row.tool == RESPOND]
    if none:
        found.append(("Left alone", f"{none[0].after} of {none[0].asked}", "requests that no tool serves"))
    own = "your own" if report.measured_on == "own" else "held out of the requests that were made"
    return [*found, ("Requests", f"{n}", own)]
