"""``dualtune inspect``: the tokens of training examples, coloured by what happens to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.cli.train import required_model
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.models import load_tokenizer
from dualtune_mlx.prompts import ACTIVATIONS, Encoder, Prompt, Template
from dualtune_mlx.training.batches import shared_prefix
from dualtune_mlx.training.examples import Example, stage_examples
from dualtune_mlx.training.run import STAGES

COLOURS = {"prefix": "dim", "context": "blue", "active": "yellow", "learned": "black on green"}


@click.command("inspect")
@options.model
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl file of trajectories.")
@click.option("--stage", type=click.Choice(STAGES), default=None, help="Only this stage.")
@options.template
@options.cards
@click.option("--activation", type=click.Choice(ACTIVATIONS), default="turn", show_default=True)
@click.option("--limit", default=3, show_default=True, help="Examples shown a stage.")
@json_option
def command(
    model: str | None,
    data: Path,
    stage: str | None,
    template: str,
    cards: str,
    activation: str,
    limit: int,
    json_to: str | None,
) -> None:
    """Show tokens, masks and activation of the examples in DATA, as training sees them."""
    out = console(json_to)
    prompt = Prompt(Template(template), load_tokenizer(required_model(model)), cards)
    trajectories = read_trajectories(data)
    values: list[dict[str, Any]] = []
    out.print(Text.assemble("legend: ", *((f" {name} ", style) for name, style in COLOURS.items())))
    for name in [stage] if stage else STAGES:
        examples = stage_examples(trajectories, prompt, name, activation)
        prefix = len(shared_prefix(examples))
        for example in examples[:limit]:
            show(out, example, prefix, prompt.encoder, name)
            values.append(as_json(example, prompt.encoder, name))
    emit_json(json_to, values)


def show(out: Console, example: Example, prefix: int, encoder: Encoder, stage: str) -> None:
    """One example as text; every token in the colour of its part."""
    counts = f"{prefix} prefix, {example.active - prefix} context, {example.start - example.active} active"
    out.print(Text(f"\n{stage}: {counts}, {example.targets} learned tokens", style="bold"))
    text = Text()
    for part, start, end in (
        ("prefix", 0, prefix),
        ("context", prefix, example.active),
        ("active", example.active, example.start),
        ("learned", example.start, len(example.tokens)),
    ):
        for index in range(start, end):
            text.append(encoder.decode([example.tokens[index]]), style=COLOURS[part])
    out.print(text)


def as_json(example: Example, encoder: Encoder, stage: str) -> dict[str, Any]:
    positions = range(len(example.tokens))
    return {
        "stage": stage,
        "tokens": [encoder.decode([token]) for token in example.tokens],
        "ids": list(example.tokens),
        "learned": [int(position >= example.start) for position in positions],
        "active": [int(position >= example.active) for position in positions],
    }
