"""One option of ``dualtune train`` for each field of ``TrainOptions``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from dualtune_mlx.prompts import ACTIVATIONS
from dualtune_mlx.training import TrainOptions
from dualtune_mlx.training.schedules import SCHEDULES

CHOICES = {"schedule": SCHEDULES, "activation": ACTIVATIONS}
HELP = {
    "steps": "Optimiser steps; excludes --epochs.",
    "epochs": "Times over all examples; excludes --steps.",
    "batch_size": "Examples computed at once.",
    "accumulate": "Batches a step.",
    "learning_rate": "Highest learning rate of AdamW.",
    "schedule": "How the learning rate falls.",
    "warmup": "Steps in which the learning rate rises.",
    "weight_decay": "Weight decay of AdamW.",
    "clip": "Highest norm of the gradient; 0: any.",
    "rank": "Rank of the adapter.",
    "alpha": "Strength of the adapter: its update is scaled by alpha / rank.",
    "rslora": "Scale by alpha / sqrt(rank) instead.",
    "dora": "Learn the magnitude of every output too.",
    "dropout": "Share of an adapter's inputs that are dropped in training.",
    "targets": "Linear layers that change, by patterns such as self_attn.*; several times, or with commas.",
    "layers": "Decoder layers that change: all, last:N or first:N.",
    "activation": "Where the adapter begins to act.",
    "validate_every": "Steps between measurements of the validation loss; 0: only at the end.",
    "patience": "Measurements without a better one that end the run; 0: any number.",
    "checkpoint_every": "Steps between checkpoints; 0: only on Ctrl-C.",
    "keep": "Checkpoints that are kept.",
    "window": "Tokens of the longest conversation, others lose their oldest exchanges; 0: what the model was made for.",
    "grad_checkpoint": "Compute activations again in the backward pass instead of keeping them.",
    "keep_contexts": "GiB of earlier messages' KV that are kept from epoch to epoch; 0: none.",
    "memory_budget": "GiB; a run that would need more is refused. 0: no limit.",
    "seed": "Seed of the order and of the first weights.",
}


def _flag(field: Field[Any]) -> Callable[[Any], Any]:
    """The option of a field of TrainOptions; it has no default, so that merging knows what was given."""
    name, default = field.name, field.default
    dashed = name.replace("_", "-")
    if isinstance(default, bool):
        shown = f"{'' if default else 'no-'}{dashed}"
        return click.option(f"--{dashed}/--no-{dashed}", name, default=None, help=f"{HELP[name]}  [default: {shown}]")
    if isinstance(default, tuple):
        shown = ",".join(default)
        return click.option(
            "--target", f"--{dashed}", name, multiple=True, help=f"{HELP[name]}  [default: {shown}]", metavar="PATTERN"
        )
    kind = click.Choice(list(CHOICES[name])) if name in CHOICES else type(default)
    return click.option(f"--{dashed}", name, type=kind, help=f"{HELP[name]}  [default: {default}]")


def train_flags(command: Any) -> Any:
    """One option for each field of TrainOptions."""
    for field in reversed(fields(TrainOptions)):
        command = _flag(field)(command)
    return command
