"""``dualtune inspect``: the tokens of training examples, coloured by what happens to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.models import load_tokenizer
from dualtune_mlx.prompts import ACTIVATIONS, Encoder, PromptRenderer, Template
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training import needs_router
from dualtune_mlx.training.examples import STAGES, Example, is_divided, stage_examples
from dualtune_mlx.training.prefixes import Prefixes
from dualtune_mlx.training.report.contents import token_kinds, tokens_with_kinds

COLOURS = {"prefix": "dim", "context": "blue", "active": "yellow", "learned": "black on green"}


@click.command("inspect")
@options.model
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl file of trajectories.")
@click.option("--stage", type=click.Choice(STAGES), default=None, help="Only this stage.")
@options.template
@options.cards
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
    activation: str,
    routing: str,
    limit: int,
    json_to: str | None,
) -> None:
    """Show tokens, masks and activation of the examples in DATA, as training sees them."""
    out = console(json_to)
    prompt = PromptRenderer(Template(template), load_tokenizer(options.required_model(model)), cards)
    trajectories = read_trajectories(data)
    hierarchical = needs_router(trajectories, routing)
    values: list[dict[str, Any]] = []
    out.print(Text.assemble("legend: ", *((f" {name} ", style) for name, style in COLOURS.items())))
    for name in [stage] if stage else stages_of(trajectories):
        examples = stage_examples(trajectories, prompt, name, activation, hierarchical=hierarchical).examples
        prefixes = Prefixes(examples, least=1)
        for example in examples[:limit]:
            show(out, example, len(prefixes.of(example)), prompt.encoder, name)
            values.append(as_json(example, prompt.encoder, name))
    emit_json(json_to, values)


def stages_of(trajectories: Sequence[Trajectory]) -> tuple[str, ...]:
    """The stages; the planner is one of them where a request has parts, the router where every conversation has tools
    of several named servers."""
    servers = [{tool.server for tool in trajectory.tools} for trajectory in trajectories]
    learned = {
        "planner": any(map(is_divided, trajectories)),
        "router": all(len(names) > 1 and "" not in names for names in servers),
    }
    return tuple(stage for stage in STAGES if learned.get(stage, True))


def show(out: Console, example: Example, prefix: int, encoder: Encoder, stage: str) -> None:
    """One example as text; every token in the colour of its part."""
    found = token_kinds(example, prefix)
    counts = ", ".join(f"{found.count(kind)} {kind}" for kind in COLOURS)
    out.print(Text(f"\n{stage}: {counts} tokens", style="bold"))
    out.print(Text.assemble(*((text, COLOURS[kind]) for text, kind in tokens_with_kinds(example, prefix, encoder))))


def as_json(example: Example, encoder: Encoder, stage: str) -> dict[str, Any]:
    found = token_kinds(example, 0)
    return {
        "stage": stage,
        "tokens": [encoder.decode([token]) for token in example.tokens],
        "ids": list(example.tokens),
        "learned": [int(kind == "learned") for kind in found],
        "active": [int(position >= example.active) for position in range(len(found))],
    }
