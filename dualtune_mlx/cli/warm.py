"""``dualtune warm``: the prefixes of a bundle's tool sets, computed once."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.data import read_tools
from dualtune_mlx.engine import DualTune
from dualtune_mlx.engine.warm import Prefix, WarmReport, warm
from dualtune_mlx.errors import count_of
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.tools import Tool

MIB = 2**20
LEAST_SAVED = 0.01  # seconds


@click.command("warm")
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder.")
@options.model
@click.option("--tools", "tools_file", type=click.Path(path_type=Path), help="JSON file with tools.")
@click.option("--mcp", type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@json_option
def command(bundle: Path, model: str | None, tools_file: Path | None, mcp: Path | None, json_to: str | None) -> None:
    """Compute the prefixes of a bundle's tools ahead, into BUNDLE/prefixes; later starts read them.

    With a router, it computes a prefix for every choice in the hierarchy of tools; without one, a prefix for all tools
    and, where there are several servers, one for the tools of each. With a planner, it also computes the prefix of
    plans. Without --tools and --mcp, it takes the tools that the bundle knows.
    """
    if tools_file and mcp:
        raise click.UsageError("Give --tools or --mcp, not both.")
    out = console(json_to)

    def announce(prefix: Prefix) -> None:
        out.print(f"{prefix.name}: {count_of(len(prefix.tokens), 'token')} …", markup=False)

    tools = _read_tools(tools_file, mcp)
    with DualTune.load(bundle, model) as dualtune:
        report = warm(dualtune, tools, announce)
    show(out, report)
    emit_json(json_to, report.to_dict())


def _read_tools(tools_file: Path | None, mcp: Path | None) -> tuple[Tool, ...]:
    if tools_file:
        return read_tools(tools_file)
    if not mcp:
        return ()
    with connect(read_config(mcp)) as toolbox:
        return toolbox.tools


def show(out: Console, report: WarmReport) -> None:
    """A table of the prefixes, and what a later start saves."""
    table = Table("prefix", "tokens", "size", "computed", "read and checked")
    for one in report.prefixes:
        size, took = f"{one.bytes / MIB:.1f} MiB", "was there" if one.seconds is None else f"{one.seconds:.2f} s"
        table.add_row(one.name, f"{one.tokens:,}", size, took, f"{one.read_seconds:.2f} s")
    out.print(table)
    if report.removed:
        out.print(f"Removed, because they could not be used: {', '.join(report.removed)}.", markup=False)
    if any(one.seconds is not None for one in report.prefixes):
        saves = report.saved_seconds >= LEAST_SAVED
        saved = f"saves {report.saved_seconds:.2f} s" if saves else "is no faster: they are computed as fast as read"
        out.print(f"A later start {saved}. The files are in {report.folder}.", markup=False)
    else:
        out.print(f"Nothing to do: all of them are in {report.folder} and valid.", markup=False)
