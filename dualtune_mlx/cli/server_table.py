"""Shows the tools of a server, and what of them cannot be used."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.cli.calls import quote_name
from dualtune_mlx.mcp.inspection import ServerReport


def show_server(out: Console, report: ServerReport) -> None:
    """A line for each tool of a server, with what cannot be used of it and why."""
    named = f"server {report.config.name}" if report.config.name else "tools of no server"
    address = f": {report.config.address}" if report.config.address else ""
    out.print(Text(named + address, style="bold"))
    if report.failure:
        out.print(Text(str(report.failure), style="red"))
        return
    table = Table("", "tool", "what cannot be used, and why", show_header=True)
    table.columns[1].overflow = "fold"
    for tool in report.tools:
        table.add_row(Text("ok", style="green"), quote_name(tool.name), "\n".join(report.notes.get(tool.name, ())))
    for name, why in report.set_aside.items():
        table.add_row(Text("--", style="yellow"), quote_name(name), str(why))
    for name in report.excluded:
        table.add_row(Text("--", style="yellow"), quote_name(name), "hidden by the configuration")
    out.print(table)
