"""``dualtune doctor``: what this machine has and lacks."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.table import Table

from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.machine import check_machine


@click.command("doctor")
@json_option
def command(json_to: str | None) -> None:
    """Say what this machine has and lacks, and how to get it."""
    checks = check_machine()
    out = console(json_to)
    table = Table("", "what", "found", "to do", show_header=True)
    for check in checks:
        table.add_row(
            "[green]ok[/]" if check.ok else "[yellow]--[/]", check.what, check.found, "" if check.ok else check.fix
        )
    out.print(table)
    emit_json(json_to, [asdict(check) for check in checks])
