"""``dualtune data split``: data divided into training, validation and test."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.data import SPLITS
from dualtune_mlx.data.splitting import BY, split_data

SHARE = click.FloatRange(0, 1, max_open=True)


@click.command("split")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--data", "folder", required=True, type=click.Path(path_type=Path), help="The data folder to write into.")
@click.option("--valid", type=SHARE, default=0.1, show_default=True, help="The share for validation; 0 for none.")
@click.option("--test", type=SHARE, default=0.1, show_default=True, help="The share for the test; 0 for none.")
@click.option(
    "--by",
    type=click.Choice(BY),
    default="family",
    show_default=True,
    help="family: no wording is in two splits; tool: whole tools are held out.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed divides the same lines alike.")
@click.option("--replace", is_flag=True, help="Replace files that are there.")
@json_option
def command(
    sources: tuple[Path, ...],
    folder: Path,
    valid: float,
    test: float,
    by: str,
    seed: int,
    replace: bool,
    json_to: str | None,
) -> None:
    """Divide data into train.jsonl, valid.jsonl and test.jsonl.

    Requests of one wording are a family, which is that of their metadata or what is left of them without case, spaces
    and values. A family is never in two splits, and each tool is in all splits as long as half of its
    lines stay in training.
    """
    out = console(json_to)
    divided = split_data(sources, folder, valid=valid, test=test, by=by, seed=seed, replace=replace)
    table = Table("lines", *SPLITS, box=None)
    table.add_row("all", *(f"{divided.lines.get(split, 0):,}" for split in SPLITS), style="bold")
    for tool, counts in divided.tools.items():
        table.add_row(tool, *(f"{counts.get(split, 0):,}" for split in SPLITS))
    out.print(table)
    out.print(f"written to {folder}", markup=False, soft_wrap=True)
    emit_json(json_to, divided.to_dict())
