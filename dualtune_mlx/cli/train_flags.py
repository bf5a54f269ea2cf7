"""Flags for the fields of ``TrainOptions``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from dualtune_mlx.prompts import ACTIVATIONS
from dualtune_mlx.training import TrainOptions
from dualtune_mlx.training.schedules import SCHEDULES

CHOICES = {"schedule": SCHEDULES, "activation": ACTIVATIONS}


def _flag(field: Field[Any]) -> Callable[[Any], Any]:
    """The flag of an option. It has no default, so that ``merge_config`` knows which options were given."""
    name, default, help_text = field.name, field.default, field.metadata["help"]
    dashed = name.replace("_", "-")
    if isinstance(default, bool):
        shown = f"{'' if default else 'no-'}{dashed}"
        return click.option(f"--{dashed}/--no-{dashed}", name, default=None, help=f"{help_text}  [default: {shown}]")
    if isinstance(default, tuple):
        shown = ",".join(default)
        return click.option(
            "--target", f"--{dashed}", name, multiple=True, help=f"{help_text}  [default: {shown}]", metavar="PATTERN"
        )
    kind = click.Choice(list(CHOICES[name])) if name in CHOICES else type(default)
    return click.option(f"--{dashed}", name, type=kind, help=f"{help_text}  [default: {default}]")


def train_flags(command: Any) -> Any:
    """Add a flag for each field of ``TrainOptions`` to a command."""
    for field in reversed(fields(TrainOptions)):
        command = _flag(field)(command)
    return command
