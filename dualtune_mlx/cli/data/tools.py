"""``dualtune data tools``: a snapshot of the tools that can be used, and why others cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.cli.server_table import show_server
from dualtune_mlx.errors import count_of, escape
from dualtune_mlx.mcp import read_config
from dualtune_mlx.mcp.inspection import inspect_servers, report_listing
from dualtune_mlx.mcp.snapshot import Snapshot, snapshot_tools
from dualtune_mlx.mcp.tools_file import read_listings


@click.command("tools")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@click.option(
    "--tools",
    "tools_file",
    type=click.Path(path_type=Path),
    help="JSON file: an answer to tools/list, its pages in a list, or tools in OpenAI's or our form.",
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data folder; it gets tools.json.")
@json_option
def command(mcp: Path | None, tools_file: Path | None, data: Path, json_to: str | None) -> None:
    """Write the tools that can be used into DATA/tools.json, and say what cannot be used and why.

    A snapshot of a folder that has one says what changed.

    Exit code 1: a server failed, or no tool can be used; nothing is written.
    """
    if (mcp is None) == (tools_file is None):
        raise click.UsageError("Give either --mcp or --tools.")
    out = console(json_to)
    reports = []
    for report in inspect_servers(read_config(mcp)) if mcp else map(report_listing, read_listings(tools_file or "")):
        show_server(out, report)
        reports.append(report)
    value = {"servers": [report.to_dict() for report in reports]}
    if any(report.failure for report in reports):
        out.print('Nothing is written: a server failed. Mend it, or switch it off: "disabled": true.', markup=False)
        emit_json(json_to, {**value, "file": None, "count": 0, "changes": None})
        sys.exit(1)
    snapshot = snapshot_tools(reports, data)
    show_snapshot(out, snapshot)
    emit_json(json_to, {**value, **snapshot.to_dict()})


def show_snapshot(out: Console, snapshot: Snapshot) -> None:
    """What was written, and what changed."""
    out.print(f"{count_of(len(snapshot.tools), 'tool')} written to {snapshot.path}", markup=False, soft_wrap=True)
    if snapshot.changes is None:
        return
    kinds = {
        "new": snapshot.changes.untrained,
        "typed otherwise": snapshot.changes.changed,
        "described otherwise": snapshot.reworded,
        "gone": snapshot.changes.gone,
    }
    for kind, tools in kinds.items():
        for tool in tools:
            out.print(Text(escape(f"  {kind}: {tool.server}/{tool.name}" if tool.server else f"  {kind}: {tool.name}")))
    if not any(kinds.values()):
        out.print("  nothing changed since the snapshot before")
