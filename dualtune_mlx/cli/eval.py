"""``dualtune eval``: right server, right tool, whole call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option, progress
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import count_of, escape
from dualtune_mlx.evaluation import evaluate_calls
from dualtune_mlx.evaluation.calls import ANOTHER_TOOL, METRICS
from dualtune_mlx.training.left_out import count_left_out

SHOWN = 5
"""Unwritable calls that are shown; the JSON has them all."""


@click.command("eval")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle folder.")
@click.option("--base", is_flag=True, help="Measure a base model without adapters.")
@options.model
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl file of trajectories.")
@click.option("--suite", type=click.Choice(["calls"]), default="calls", show_default=True, help="What is measured.")
@options.template
@options.cards
@options.argument_card
@options.grounding
@options.routing
@options.max_tokens
@json_option
def command(
    bundle: Path | None,
    base: bool,
    model: str | None,
    data: Path,
    suite: str,
    template: str,
    cards: str,
    argument_card: str,
    grounding: str,
    routing: str,
    max_tokens: int,
    json_to: str | None,
) -> None:
    """Measure right servers, tools and calls, of a bundle or of a base model.

    --template, --cards and --argument-card are for --base; a bundle has its own. --grounding is for --bundle; a base
    model has none.
    """
    if (bundle is None) == (not base):
        raise click.UsageError("Give either --bundle or --base.")
    if bundle:
        options.only_with("--base", "template", "cards", "argument_card")
    else:
        options.only_with("--bundle", "grounding")
    out = console(json_to)
    trajectories = read_trajectories(data)
    loaded = (
        DualTune.load(bundle, model, decoding=Decoding(grounding=grounding), routing=routing)
        if bundle
        else DualTune.without_adapters(options.required_model(model), template, cards, routing, argument_card)
    )
    with loaded as dualtune, progress(out, f"eval {suite}") as bar:
        report = evaluate_calls(dualtune, trajectories, max_tokens, lambda done, total: bar(done, total, ""))
    value = report.to_dict()
    out.print(accuracy_table(value))
    for note in describe(value, count_left_out(trajectories, "selector")):
        out.print(escape(note), markup=False, soft_wrap=True)
    emit_json(json_to, value)


def accuracy_table(value: Mapping[str, Any]) -> Table:
    """A row for each metric of a report's value."""
    table = Table("right", "accuracy", "95% interval", title=count_of(value["n"], "decision"))
    for metric in METRICS:
        low, high = value["intervals"][metric]
        table.add_row(metric, f"{value[metric]:.1%}", f"{low:.1%} to {high:.1%}")
    return table


def describe(value: Mapping[str, Any], left_out: Mapping[str, int]) -> list[str]:
    """What is to be known beside the accuracies, a sentence each: what failed, and what was not asked."""
    notes = [f"decisions that were not asked: {count:,} {reason}" for reason, count in left_out.items()]
    failures = Counter(example["failure"] for example in value["examples"] if "failure" in example)
    failures.pop(ANOTHER_TOOL, None)
    notes += [f"calls that were not written: {count:,} ({failure})" for failure, count in failures.items()]
    unwritable = [example for example in value["examples"] if "unwritable" in example]
    if unwritable:
        notes.append(f"right calls that could never be written: {len(unwritable):,} of {value['n']:,}")
        notes += [f"  {example['gold']['name']} at {example['unwritable']}" for example in unwritable[:SHOWN]]
    return notes
