"""``dualtune data import``: data of other programs as data files of ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.data.importing import FORMATS, import_data
from dualtune_mlx.errors import count_of


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SRC…")
@click.option("--data", "out", required=True, type=click.Path(path_type=Path), help="The data folder to write into.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="openai: also mlx-lm's and AgentFlux's; sharegpt: also Hermes'; auto: by the keys of the first record.",
)
@json_option
def command(sources: tuple[Path, ...], out: Path, form: str, json_to: str | None) -> None:
    """Bring data of other programs into a data folder.

    SRC is a file (JSONL, or one JSON list) or a folder of files. NAME.json becomes DATA/NAME.jsonl; what cannot be
    taken is kept in DATA/NAME.rejected.jsonl with the reason. Transcripts of the agent become DATA/transcripts.jsonl.

    Exit code 1: nothing could be taken.
    """
    screen = console(json_to)
    made = import_data(sources, out, form, _read_run)
    for one in made:
        if not one.format:
            screen.print(f"passed over: {one.path} has none of the known forms", markup=False, soft_wrap=True)
            continue
        lines = count_of(one.lines, "line")
        screen.print(f"{one.path}: {lines} of the form {one.format}", markup=False, soft_wrap=True)
        for reason, count in one.reasons.items():
            screen.print(f"  not taken: {count:,} ({reason}), kept in {one.rejected}", markup=False, soft_wrap=True)
    emit_json(json_to, [one.to_dict() for one in made])
    if not any(one.lines for one in made):
        sys.exit(1)


def _read_run(path: Path) -> dict[str, Any]:
    from dualtune_mlx.agent.learned_runs import to_trajectory  # the model library is loaded where it is needed alone
    from dualtune_mlx.agent.transcript import read_transcript

    return to_trajectory(read_transcript(path)).to_dict()
