"""``dualtune bench NAME``: the same as ``python benchmarks/NAME.py``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option

PLAIN = ("training", "switching", "calls", "scaling", "accuracy")
MODULES = {**dict(zip(PLAIN, PLAIN, strict=True)), "unseen": "unseen_tools"}
"""Each benchmark with its module."""
SPLITS = ("tune", "test")


@click.command("bench")
@click.argument("benchmark", type=click.Choice(tuple(MODULES)))
@click.option("--quick", is_flag=True, help="Three to eight minutes on two CPU cores: fewer repetitions.")
@click.option(
    "--lists", type=click.Path(path_type=Path), help="unseen: folder with the servers' tools, NAME.json each."
)
@click.option("--split", type=click.Choice(SPLITS), default="tune", show_default=True, help="unseen: which requests.")
@click.option("--bundle", type=click.Path(path_type=Path), help="unseen: bundle folder; without one, the base model.")
@click.option("--fit", is_flag=True, help="unseen: fit the bundle's lexical evidence to the requests for tuning.")
@json_option
def command(
    benchmark: str, quick: bool, lists: Path | None, split: str, bundle: Path | None, fit: bool, json_to: str | None
) -> None:
    """Measure a claim here, beside the peer."""
    given = {"lists": lists, "split": split, "bundle": bundle, "fit": fit} if benchmark == "unseen" else {}
    if not given:
        options.refuse_given(("lists", "split", "bundle", "fit"), "goes with the benchmark 'unseen' only")
    elif lists is None:
        raise click.UsageError("The benchmark 'unseen' needs --lists.")
    run = import_module("dualtune_mlx.benchmarks.common").run
    emit_json(json_to, run(MODULES[benchmark], quick, console(json_to), **given))
