"""``dualtune data tools``: a snapshot of the tools that can be used, and why others cannot."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dualtune_mlx.cli import options
from dualtune_mlx.cli.calls import name_tool, quote_name
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.cli.server_table import show_server
from dualtune_mlx.data.values import write_values
from dualtune_mlx.errors import count_of
from dualtune_mlx.mcp import ServerConfig, read_config
from dualtune_mlx.mcp.inspection import ServerReport, inspect_servers, report_listing
from dualtune_mlx.mcp.looking import observe_servers
from dualtune_mlx.mcp.snapshot import Snapshot, snapshot_tools
from dualtune_mlx.mcp.tools_file import read_listings
from dualtune_mlx.tools import ToolCall


@click.command("tools")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@click.option(
    "--tools",
    "tools_file",
    type=click.Path(path_type=Path),
    help="JSON file: an answer to tools/list, its pages in a list, or tools in OpenAI's or our form.",
)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data folder; it gets tools.json.")
@click.option(
    "--look",
    "looks",
    is_flag=True,
    help="Call tools that only read, and that the configuration allows, once: names, ids and paths in their results "
    "become values in DATA/values.json.",
)
@json_option
def command(mcp: Path | None, tools_file: Path | None, data: Path, looks: bool, json_to: str | None) -> None:
    """Write the tools that can be used into DATA/tools.json, and say what cannot be used and why.

    A snapshot of a folder that has one says what changed.

    Exit code 1: a server failed, or no tool can be used; nothing is written.
    """
    if (mcp is None) == (tools_file is None):
        raise click.UsageError("Give either --mcp or --tools.")
    if mcp is None:
        options.only_with("--mcp", "looks")
    out = console(json_to)
    configs = read_config(mcp) if mcp else ()
    reports = show_reports(
        out, inspect_servers(configs) if mcp else map(report_listing, read_listings(tools_file or ""))
    )
    value = {"servers": [report.to_dict() for report in reports]}
    if any(report.failure for report in reports):
        out.print('Nothing is written: a server failed. Mend it, or switch it off: "disabled": true.', markup=False)
        emit_json(json_to, {**value, "file": None, "count": 0, "changes": None})
        sys.exit(1)
    snapshot = snapshot_tools(reports, data)
    show_snapshot(out, snapshot)
    seen = look_at(out, configs, data) if looks else {}
    emit_json(json_to, {**value, **snapshot.to_dict(), **seen})


def show_reports(out: Console, reports: Iterable[ServerReport]) -> list[ServerReport]:
    """Show what each server offers, as it comes; all reports."""
    shown = []
    for report in reports:
        show_server(out, report)
        shown.append(report)
    return shown


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
            out.print(f"  {kind}: {name_tool(tool.server, tool.name)}")
    if not any(kinds.values()):
        out.print("  nothing changed since the snapshot before")


def look_at(out: Console, configs: Sequence[ServerConfig], data: Path) -> dict[str, Any]:
    """Say which calls are made, make them, and write what they show; it as JSON."""

    def announce(calls: Sequence[ToolCall]) -> None:
        named = ", ".join(name_tool(call.server, call.name) for call in calls)
        read = "reads" if len(calls) == 1 else "read"
        out.print(f"{count_of(len(calls), 'call')} that only {read}: {named}", markup=False, soft_wrap=True)

    seen, observed = observe_servers(configs, announce)
    write_values(data, observed.values)
    for one in seen:
        if failure := one.to_dict()["failure"]:
            out.print(f"  {quote_name(one.call.name)}: {failure}", markup=False)
    found = sum(map(len, observed.values.values()))
    out.print(f"{count_of(found, 'value')} written to {data / 'values.json'}", markup=False, soft_wrap=True)
    for reason, count in observed.left_out.items():
        out.print(f"  left out: {count:,} {reason}", markup=False)
    looked = [one.to_dict() for one in seen]
    return {"looked": looked, "values": {key: len(items) for key, items in observed.values.items()}}
