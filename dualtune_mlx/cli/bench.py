"""``dualtune bench NAME``: the same as ``python benchmarks/NAME.py``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option

PLAIN = ("training", "switching", "calls", "scaling", "accuracy")
MODULES = {
    **dict(zip(PLAIN, PLAIN, strict=True)),
    "unseen": "unseen_tools",
    "learned": "learned_tools",
    "wordings": "wordings",
}
"""Each benchmark with its module."""
TAKEN = {
    "unseen": ("lists", "split", "bundle", "fit"),
    "learned": ("lists", "split", "work", "minutes", "servers"),
    "wordings": ("work",),
}
"""The options that a benchmark alone takes."""
NEEDED = {"unseen": ("lists",), "learned": ("lists", "work"), "wordings": ("work",)}
SPLITS = ("tune", "test")


@click.command("bench")
@click.argument("benchmark", type=click.Choice(tuple(MODULES)))
@click.option("--quick", is_flag=True, help="Three to eight minutes on two CPU cores: fewer repetitions.")
@click.option(
    "--lists", type=click.Path(path_type=Path), help="unseen, learned: folder with the servers' tools, NAME.json each."
)
@click.option(
    "--split", type=click.Choice(SPLITS), default="tune", show_default=True, help="unseen, learned: which requests."
)
@click.option("--bundle", type=click.Path(path_type=Path), help="unseen: bundle folder; without one, the base model.")
@click.option("--fit", is_flag=True, help="unseen: fit the bundle's lexical evidence to the requests for tuning.")
@click.option(
    "--work", type=click.Path(path_type=Path), help="learned, wordings: folder for the bundles that are learned."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=15.0,
    show_default=True,
    help="learned: for each server.",
)
@click.option("--servers", multiple=True, help="learned: this server alone; may be repeated.")
@json_option
def command(benchmark: str, quick: bool, json_to: str | None, **values: Any) -> None:
    """Measure a claim here, beside the peer."""
    taken = TAKEN.get(benchmark, ())
    for name in values.keys() - set(taken):
        others = " or ".join(repr(other) for other, names in TAKEN.items() if name in names)
        options.refuse_given((name,), f"goes with the benchmark {others} only")
    for name in NEEDED.get(benchmark, ()):
        if values[name] is None:
            raise click.UsageError(f"The benchmark {benchmark!r} needs --{name}.")
    run = import_module("dualtune_mlx.benchmarks.common").run
    given = {name: values[name] for name in taken}
    emit_json(json_to, run(MODULES[benchmark], quick, console(json_to), **given))
