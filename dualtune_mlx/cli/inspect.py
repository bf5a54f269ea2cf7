"""``dualtune inspect``: the tokens of training examples, coloured or marked by what happens to them."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option, show_tool_changes
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.engine.trained_tools import TrainedTools
from dualtune_mlx.models import load_tokenizer
from dualtune_mlx.prompts import ACTIVATIONS, PromptRenderer, template_for
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training import STAGES
from dualtune_mlx.training.inspection import InspectedExample, find_stages, inspect_examples
from dualtune_mlx.training.left_out import count_left_out, describe_left_out

COLOURS = {"prefix": "dim", "context": "blue", "active": "yellow", "learned": "black on green"}
MARKS = {"prefix": ("", ""), "context": ("⟨", "⟩"), "active": ("⟪", "⟫"), "learned": ("⟦", "⟧")}
"""What stands around the tokens of a kind where there are no colours."""


@click.command("inspect")
@options.model
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl file of trajectories.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Compare the tools with those of this bundle. The model, the template and the cards are the bundle's.",
)
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
    bundle: Path | None,
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
    trajectories = read_trajectories(data)
    if bundle is None:
        tokenizer = load_tokenizer(options.required_model(model))
        renderer = PromptRenderer(template_for(template, tokenizer), tokenizer, cards, argument_card)
        compared = {}
    else:
        options.only_without("--bundle", "template", "cards", "argument_card")
        opened = Bundle.open(bundle)
        renderer = opened.open_renderer(load_tokenizer(model or opened.model), model=model)
        visible = {(tool.server, tool.name): tool for one in trajectories for tool in one.tools}
        changes = TrainedTools(opened).compare(tuple(visible.values()))
        show_tool_changes(out, changes)
        compared = {"tool_changes": changes.to_dict() if changes is not None else None}
    examples = inspect_examples(
        trajectories, renderer, stage=stage, activation=activation, routing=routing, limit=limit
    )
    values = []
    out.print(Text.assemble("legend: ", *(part for kind in COLOURS for part in (mark(out, f" {kind} ", kind), " "))))
    for example in examples:
        show(out, example)
        values.append({**example.to_dict(), **compared})
    for name in [stage] if stage else find_stages(trajectories):
        if left_out := describe_left_out(count_left_out(trajectories, name)):
            out.print(f"{name}: {left_out}", markup=False)
    emit_json(json_to, values)


def show(out: Console, example: InspectedExample) -> None:
    """Print an example's tokens, those of a kind that follow each other in its colour, or between its marks."""
    counts = ", ".join(f"{example.kinds.count(kind)} {kind}" for kind in COLOURS)
    out.print(Text(f"\n{example.stage}: {counts} tokens", style="bold"))
    runs = groupby(zip(example.tokens, example.kinds, strict=True), lambda pair: pair[1])
    out.print(Text.assemble(*(mark(out, "".join(text for text, _ in run), kind) for kind, run in runs)))


def mark(out: Console, text: str, kind: str) -> Text:
    """A text of a kind: in its colour or, where nothing is coloured, between its marks."""
    if out.color_system is None or out.no_color:
        opens, closes = MARKS[kind]
        return Text(f"{opens}{text}{closes}")
    return Text(text, COLOURS[kind])
