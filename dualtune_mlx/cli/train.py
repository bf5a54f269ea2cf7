"""``dualtune train {selector,arguments}``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, progress
from dualtune_mlx.data import read_split
from dualtune_mlx.models import load_model
from dualtune_mlx.prompts import ACTIVATIONS, Prompt, Template
from dualtune_mlx.training import STAGES, Progress, TrainOptions, train_stage

DEFAULTS = {field.name: field.default for field in fields(TrainOptions)}


def _number(name: str, text: str) -> Any:
    default: Any = DEFAULTS[name]
    return click.option(
        f"--{name.replace('_', '-')}", type=type(default), default=default, show_default=True, help=text
    )


@click.command("train")
@click.argument("stage", type=click.Choice(STAGES))
@options.model
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with train.jsonl and valid.jsonl.")
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder; made when missing.")
@options.template
@options.cards
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    default=DEFAULTS["activation"],
    show_default=True,
    help="Where the adapter begins to act.",
)
@_number("steps", "Optimiser steps.")
@_number("batch_size", "Examples a step.")
@_number("learning_rate", "Highest learning rate of AdamW.")
@_number("warmup", "Steps in which the learning rate rises.")
@_number("weight_decay", "Weight decay of AdamW.")
@_number("rank", "Rank of the adapter.")
@_number("scale", "Factor of the adapter's update (alpha / rank).")
@_number("layers", "How many layers, from the last, have an adapter.")
@_number("validate_every", "Steps between measurements of the validation loss; 0: only at the end.")
@_number("seed", "Seed of the order and of the first weights.")
def command(stage: str, model: str | None, data: Path, bundle: Path, template: str, cards: str, **given: Any) -> None:
    """Train one stage's adapter on DATA and put the best one into BUNDLE."""
    training = TrainOptions(**given)
    out = console(None)
    name = required_model(model)
    train_set, valid_set = read_split(data, "train"), read_split(data, "valid")
    base = load_model(name)
    prompt = Prompt(Template(template), base.tokenizer, cards)
    with progress(out, f"train {stage}") as bar:
        trained = train_stage(
            stage,
            base,
            prompt,
            train_set,
            valid_set,
            bundle,
            training,
            lambda state: bar(state.step, state.steps, words(state)),
        )
    loss = trained.validation_loss
    out.print(f"{stage}: validation loss {loss:.4f} at step {trained.best_step}; written to {bundle}")


def required_model(model: str | None) -> str:
    if model is None:
        raise click.UsageError("Missing option '--model'.")
    return model


def words(state: Progress) -> str:
    """Loss, speed and memory of a step."""
    speed, memory = f"{state.tokens_per_second:.0f} tokens/s", f"{state.peak_memory / 2**30:.1f} GiB"
    return f"loss {state.loss:.3f} · {speed} · peak {memory}"
