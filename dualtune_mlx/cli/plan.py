"""``dualtune plan``: the memory and the time that a training run will need, before it starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from rich.table import Table

from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.cli.train_flags import train_flags
from dualtune_mlx.errors import count_of
from dualtune_mlx.prompts import ARGUMENT_CARDS, CARD_KINDS
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training import PRESETS, ConfigFile, estimate_training, merge_config
from dualtune_mlx.training.estimate import GIB

UNUSED = "none"  # training needs a bundle, its estimate does not


@click.command("plan")
@options.model
@click.option("--data", metavar="DIR", help="Folder with train.jsonl and valid.jsonl.")
@click.option("--config", "file", metavar="FILE", help="The YAML file that training will be given.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help=options.PRESET_HELP)
@click.option("--template", metavar="T", help=options.TEMPLATE_HELP)
@click.option("--cards", type=click.Choice(CARD_KINDS), help=options.CARDS_HELP)
@click.option("--argument-card", type=click.Choice(ARGUMENT_CARDS), help=options.ARGUMENT_CARD_HELP)
@click.option("--routing", type=click.Choice(ROUTINGS), help=options.ROUTING_HELP)
@train_flags
@json_option
def command(file: str | None, json_to: str | None, **given: Any) -> None:
    """Say what memory and time training will need.

    The memory is read off a step with one and one with two of the longest examples. The largest batch is the one within
    --memory-budget or, without it, within three quarters of this machine's memory.

    The time is that of the steps and of the measurements of the validation loss. It is read off some batches, and lies
    between what it would be if all were as fast as the fastest one or as slow as the slowest one.
    """
    out = console(json_to)
    flags = {name: value for name, value in given.items() if value not in (None, ())}
    config = merge_config(ConfigFile.read(file) if file else None, {**flags, "bundle": UNUSED})
    estimates = estimate_training(config, lambda stage: out.print(f"measuring {stage} …"))
    values = [estimate.to_dict() for estimate in estimates]
    out.print(as_table(values))
    emit_json(json_to, values)


def as_table(values: list[dict[str, Any]]) -> Table:
    """A column a stage."""
    table = Table("", *(value["stage"] for value in values))
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "examples": lambda value: f"{value['examples']:,}",
        "left out": lambda value: ", ".join(f"{count:,} {reason}" for reason, count in value["left_out"].items()),
        "prefix": lambda value: count_of(value["prefix_tokens"], "token"),
        "steps": lambda value: f"{value['steps']:,} of {value['batch_size']} at once",
        "peak memory": lambda value: f"{value['peak_memory'] / GIB:.2f} GiB",
        "largest batch": lambda value: f"{value['largest_batch']:,} in {value['budget'] / GIB:.1f} GiB",
        "time": lambda value: duration(value["seconds"]),
        "at least": lambda value: duration(value["least_seconds"]),
        "at most": lambda value: duration(value["greatest_seconds"]),
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, values))
    return table


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
