"""``python -m dualtune_mlx.start DATA WORK`` makes a start bundle as WORK/bundle; stopped, it goes on where it was."""

from __future__ import annotations

from pathlib import Path

import click

from dualtune_mlx.linux import keep_freed_memory
from dualtune_mlx.start.recipe import make_start_bundle
from dualtune_mlx.training import SessionEvent
from dualtune_mlx.training.session import StepTaken

SHOWN = 10
"""Steps between two lines of progress."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("work", type=click.Path(path_type=Path))
def main(data: Path, work: Path) -> None:
    """Make a start bundle of the sources that lie in DATA, with WORK for everything on the way."""
    keep_freed_memory()
    bundle = make_start_bundle(data, work, report=_show)
    click.echo(bundle.folder)


def _show(event: SessionEvent) -> None:
    if isinstance(event, StepTaken) and event.progress.step % SHOWN == 0:
        progress = event.progress
        click.echo(f"{event.job.title}: step {progress.step} of {progress.steps}, loss {progress.loss:.3f}")


main()
