"""``dualtune bench NAME``: the same as ``python benchmarks/NAME.py``."""

from __future__ import annotations

from importlib import import_module

import click

from dualtune_mlx.cli.output import console, emit_json, json_option

BENCHMARKS = ("training", "switching", "calls", "scaling", "accuracy")


@click.command("bench")
@click.argument("benchmark", type=click.Choice(BENCHMARKS))
@click.option("--quick", is_flag=True, help="Three to eight minutes on two CPU cores: fewer repetitions.")
@json_option
def command(benchmark: str, quick: bool, json_to: str | None) -> None:
    """Measure a claim here, beside the peer."""
    run = import_module("dualtune_mlx.benchmarks.common").run
    emit_json(json_to, run(benchmark, quick, console(json_to)))
