"""``dualtune inspect``: the tokens of training examples, coloured by what happens to them."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.models import load_tokenizer
from dualtune_mlx.prompts import ACTIVATIONS, PromptRenderer, Template
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training import STAGES
from dualtune_mlx.training.inspection import InspectedExample, find_stages, inspect_examples
from dualtune_mlx.training.left_out import count_left_out, describe_left_out

COLOURS = {"prefix": "dim", "context": "blue", "active": "yellow", "learned": "black on green"}


@click.command("inspect")
@options.model
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl file of trajectories.")
@click.option("--stage", type=click.Choice(STAGES), default=None, help="Only this stage.")
@options.template
@options.cards
@options.argument_card
@click.option("--activation", type=click.Choice(ACTIVATIONS), default="turn", show_default=True)
@click.option("--routing", type=click.Choice(ROUTINGS), default="auto", show_default=True, help=options.ROUTING_HELP)
@click.option("--limit", default=3, show_default=True, help="Examples shown a stage.")
@json_option
def command(
    model: str | None,
    data: Path,
    stage: str | None,
    template: str,
    cards: str,
    argument_card: str,
    activation: str,
    routing: str,
    limit: int,
    json_to: str | None,
) -> None:
    """Show tokens, masks and activation of the examples in DATA, as training sees them."""
    out = console(json_to)
    tokenizer = load_tokenizer(options.required_model(model))
    renderer = PromptRenderer(Template(template), tokenizer, cards, argument_card)
    trajectories = read_trajectories(data)
    examples = inspect_examples(
        trajectories, renderer, stage=stage, activation=activation, routing=routing, limit=limit
    )
    values = []
    out.print(Text.assemble("legend: ", *((f" {name} ", style) for name, style in COLOURS.items())))
    for example in examples:
        show(out, example)
        values.append(example.to_dict())
    for name in [stage] if stage else find_stages(trajectories):
        if left_out := describe_left_out(count_left_out(trajectories, name)):
            out.print(f"{name}: {left_out}", markup=False)
    emit_json(json_to, values)


def show(out: Console, example: InspectedExample) -> None:
    """Print an example's tokens, each in the colour of its kind."""
    counts = ", ".join(f"{example.kinds.count(kind)} {kind}" for kind in COLOURS)
    out.print(Text(f"\n{example.stage}: {counts} tokens", style="bold"))
    pairs = zip(example.tokens, example.kinds, strict=True)
    out.print(Text.assemble(*((text, COLOURS[kind]) for text, kind in pairs)))
