"""``dualtune data check``: what is wrong with data, line by line and between lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import argument_or_file, console, json_option, progress, write_pieces
from dualtune_mlx.data import read_tools
from dualtune_mlx.data.checking import KINDS, CheckReport, check_data
from dualtune_mlx.data.checking.page import write_page
from dualtune_mlx.errors import count_of, escape
from dualtune_mlx.files import require_writable

SHOWN = 5
"""Findings of a kind that are printed; the JSON has them all."""


@click.command("check")
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--tools", type=click.Path(path_type=Path), help="Tools of lines without their own, if not tools.json.")
@options.model
@click.option("--fix", is_flag=True, help="Take out lines where that mends it, and keep them in NAME.removed.jsonl.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")
@json_option
def command(
    data: Path | None, tools: Path | None, model: str | None, fix: bool, html: Path | None, json_to: str | None
) -> None:
    """Find what is wrong with data, and take it out.

    DATA is a folder or a .jsonl file. Every line is read: each fault has its file, its line and what to do. Lengths are
    in words, or with --model in its tokens.

    Exit code 1: there are errors. Warnings alone are none.
    """
    name, json_to = argument_or_file(str(data) if data else None, json_to, "DATA")
    out = console(json_to)
    if html:
        require_writable(html)
    length = None
    if model:
        from dualtune_mlx.training.lengths import token_length  # the model library is loaded where it is needed alone

        length = token_length(model)
    given = read_tools(tools) if tools else None
    with progress(out, "check") as bar:
        checking = check_data(
            Path(name), given, length, fix=fix, report=lambda done, total: bar(100 * done // max(1, total), 100, "%")
        )
        report = click.get_current_context().with_resource(checking)
    show(out, report)
    if html:
        write_page(html, report)
        out.print(f"page: {html}", markup=False, soft_wrap=True)
    write_pieces(json_to, json_pieces(report))
    if report.errors:
        click.get_current_context().exit(1)


def show(out: Console, report: CheckReport) -> None:
    """Print what was found: a table of kinds, and the first findings of each."""
    for removed in report.removed:
        what = ", ".join(f"{KINDS[kind].title} {count:,}" for kind, count in removed.kinds.items())
        out.print(f"removed from {removed.path.name}: {what}", markup=False, soft_wrap=True)
        out.print(f"  kept, with the reasons, in {removed.kept_in}", markup=False, soft_wrap=True)
    lines = ", ".join(f"{split} {counts.lines:,}" for split, counts in report.counts.items())
    out.print(f"lines that can be read: {lines}; lengths in {report.length.unit}", markup=False, soft_wrap=True)
    if not report.kinds:
        out.print("nothing is wrong")
        return
    table = Table("fault", "", "count", box=None)
    for kind, count in report.kinds.items():
        table.add_row(KINDS[kind].title, "error" if KINDS[kind].is_error else "warning", f"{count:,}")
    out.print(table)
    for kind, count in report.kinds.items():
        out.print(Text(f"\n{KINDS[kind].title}", style="bold red" if KINDS[kind].is_error else "bold yellow"))
        for fix, findings in groupby(report.iter_findings(kind, SHOWN), lambda finding: finding.fix):
            for finding in findings:
                place = f"{finding.file}:{finding.line}" if finding.line else finding.file
                out.print(Text(escape(f"  {place}: {finding.what}")), soft_wrap=True)
            if fix:
                out.print(Text(escape(f"    fix: {fix}"), style="dim"), soft_wrap=True)
        if count > SHOWN:
            out.print(f"  and {count - SHOWN:,} more (--json has them all)", markup=False)
    out.print(f"\n{count_of(report.errors, 'error')}, {count_of(report.warnings, 'warning')}", markup=False)


def json_pieces(report: CheckReport) -> Iterator[str]:
    """The report with all its findings as JSON, piece by piece: there may be a million."""
    yield json.dumps(report.to_dict(), indent=2, ensure_ascii=False).removesuffix("\n}") + ',\n  "findings": ['
    before = ""
    for finding in report.iter_findings():
        yield f"{before}\n    {json.dumps(finding.to_dict(), ensure_ascii=False)}"
        before = ","
    yield "\n  ]\n}\n"
