"""The page of a check: its faults, and plots of what the data has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.data.checking.check import CheckReport
from dualtune_mlx.data.checking.kinds import KINDS, Finding
from dualtune_mlx.errors import count_of
from dualtune_mlx.files import write_text
from dualtune_mlx.pages import open_template
from dualtune_mlx.pages.charts import Mark, Pair, Series, draw_chart, linear_axis, number

SHOWN = 50
"""Findings of a kind that the page lists."""
LONG = 20
"""Rows; a longer table is folded."""
BARS = 40
"""Steps of the plot of lengths, at most."""
COPIES = ("duplicate", "near_duplicate")


@dataclass(frozen=True)
class KindOnPage:
    """A kind of fault with its first findings."""

    title: str
    is_error: bool
    count: int
    findings: Sequence[Finding]


def write_page(path: Path, report: CheckReport) -> None:
    """Write the page of a check, atomically."""
    write_text(path, render_page(report))


def render_page(report: CheckReport) -> str:
    """The page as HTML: one file that needs no script and no network."""
    splits = list(report.counts)
    return open_template("dualtune_mlx.data.checking", "check.html.jinja").render(
        report=report,
        colour="arguments" if report.errors else "selector",
        long=LONG,
        splits=splits,
        figures=list(_figures(report)),
        kinds=list(_kinds(report)),
        tools=list(_rows({split: counts.tools for split, counts in report.counts.items()})),
        arguments=list(_arguments(report)),
        lengths=_draw_lengths(report),
        copies=[
            (split, *(report.store.count(kind, path.name) for kind in COPIES)) for split, path in report.files.items()
        ],
    )


def _figures(report: CheckReport) -> Iterator[tuple[str, str, str]]:
    """(title, value, note) of each figure at the top."""
    wrong = sum(count for kind, count in report.kinds.items() if KINDS[kind].is_error)
    lines = sum(counts.lines for counts in report.counts.values())
    taken = sum(count for removed in report.removed for count in removed.kinds.values())
    yield "Errors", f"{wrong:,}", "the data should not be used with them" if wrong else "none"
    yield "Warnings", f"{report.warnings:,}", "worth a look" if report.warnings else "none"
    yield "Lines", f"{lines:,}", ", ".join(f"{split} {counts.lines:,}" for split, counts in report.counts.items())
    if report.removed:
        yield "Taken out", f"{taken:,}", "by --fix, before this check"


def _kinds(report: CheckReport) -> Iterator[KindOnPage]:
    for kind, count in report.kinds.items():
        findings = list(report.iter_findings(kind, SHOWN))
        yield KindOnPage(KINDS[kind].title, KINDS[kind].is_error, count, findings)


def _rows(counts: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, list[int]]]:
    """(tool, its calls in each split), the most called tool first."""
    total: Counter[str] = Counter()
    for own in counts.values():
        total.update(own)
    for tool in sorted(total, key=lambda name: (-total[name], name)):
        yield tool, [own.get(tool, 0) for own in counts.values()]


def _arguments(report: CheckReport) -> Iterator[tuple[str, str, int, int]]:
    """(tool, optional argument, calls that give it, all calls of the tool), over all splits."""
    given: Counter[tuple[str, str]] = Counter()
    calls: Counter[str] = Counter()
    for counts in report.counts.values():
        given.update(counts.optional)
        calls.update(counts.tools)
    for (tool, name), count in sorted(given.items()):
        yield tool, name, count, calls[tool]


def _draw_lengths(report: CheckReport) -> tuple[str, str] | None:
    """The plot of lengths and the words about it; None where no line can be read."""
    lengths: Counter[int] = Counter()
    for counts in report.counts.values():
        lengths.update(counts.lengths)
    if not lengths:
        return None
    shortest, longest, window = min(lengths), max(lengths), report.length.window
    x = linear_axis(0 if shortest < longest / 3 else shortest, longest, 8)
    pairs = _steps(lengths, max(1, round((x.high - x.low) / BARS)))
    y = linear_axis(0, max(lines for _, lines in pairs), 4)
    mark = Mark((window, 0), f"window {number(window)}") if x.low < window <= x.high else None
    middle = _median(lengths)
    about = f"half of the lines have at most {middle:,} {report.length.unit}, the longest has {longest:,}"
    beyond = sum(lines for length, lines in lengths.items() if window and length > window)
    about += f"; {count_of(beyond, 'line')} beyond the window of {window:,}" if window else ""
    picture = draw_chart("lengths", "Lines by length", about=about, x=x, y=y, series=[Series("mean", pairs)], mark=mark)
    return picture, about


def _steps(lengths: Mapping[int, int], width: int) -> list[Pair]:
    """The outline of bars of a width over lengths."""
    bars: Counter[int] = Counter()
    for length, lines in lengths.items():
        bars[length // width] += lines
    first, last = min(bars), max(bars)
    outline = [
        pair for bar in range(first, last + 1) for pair in ((bar * width, bars[bar]), ((bar + 1) * width, bars[bar]))
    ]
    return [(first * width, 0), *outline, ((last + 1) * width, 0)]


def _median(lengths: Mapping[int, int]) -> int:
    left = sum(lengths.values()) / 2
    for length in sorted(lengths):
        left -= lengths[length]
        if left <= 0:
            return length
    return 0
