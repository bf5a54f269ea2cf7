"""``dualtune doctor``: what this machine has and lacks, and what MCP servers offer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.cli.server_table import show_server
from dualtune_mlx.machine import Check, check_machine
from dualtune_mlx.mcp import read_config
from dualtune_mlx.mcp.inspection import ServerReport, inspect_servers


@click.command("doctor")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started, and looked at.")
@json_option
def command(mcp: Path | None, json_to: str | None) -> None:
    """Say what this machine has and lacks, and how to get it.

    With --mcp, list the tools of each server too, and those that cannot be used, with the reasons.

    Exit code 1: a server cannot be used.
    """
    configs = read_config(mcp) if mcp else ()
    checks = check_machine()
    out = console(json_to)
    show_checks(out, checks)
    reports = []
    for report in inspect_servers(configs):
        show_server(out, report)
        reports.append(report)
    emit_json(json_to, to_json(checks, reports) if mcp else [asdict(check) for check in checks])
    sys.exit(1 if any(report.failure for report in reports) else 0)


def show_checks(out: Console, checks: Sequence[Check]) -> None:
    """A line for each thing that was looked for."""
    table = Table("", "what", "found", "to do", show_header=True)
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("--", style="yellow")
        table.add_row(mark, check.what, check.found, "" if check.ok else check.fix)
    out.print(table)


def to_json(checks: Sequence[Check], reports: Sequence[ServerReport]) -> dict[str, object]:
    return {
        "checks": [asdict(check) for check in checks],
        "servers": [report.to_dict() for report in reports],
    }
