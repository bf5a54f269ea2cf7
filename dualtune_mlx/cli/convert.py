"""``dualtune convert``."""

from __future__ import annotations

from pathlib import Path

import click

from dualtune_mlx.cli.output import console
from dualtune_mlx.conversion.gguf import DTYPES, from_gguf


@click.group("convert")
def command() -> None:
    """Convert models to MLX."""


@command.command("from-gguf")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), default="float32", show_default=True, help="Type of the weights."
)
def gguf(source: Path, destination: Path, dtype: str) -> None:
    """Convert a llama or qwen2 GGUF file to a model folder that mlx-lm loads."""
    from_gguf(source, destination, dtype)
    console(None).print(f"written to {destination}")
