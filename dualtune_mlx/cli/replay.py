"""``dualtune replay``: a past run again, without its servers."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from dualtune_mlx.agent.learned_runs import add_to_data
from dualtune_mlx.agent.replay import replay
from dualtune_mlx.agent.transcript import read_transcript
from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import DataError, escape


@click.command("replay")
@click.argument("transcript", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Another bundle than the transcript's.")
@options.model
@click.option("--train", type=click.Path(path_type=Path), help="Add the run to this data folder instead.")
@json_option
def command(transcript: Path, bundle: Path | None, model: str | None, train: Path | None, json_to: str | None) -> None:
    """Repeat a past run without its servers, or learn from it.

    Its calls are not executed: their results come from TRANSCRIPT.

    Exit code 0: every call, and the base model's answer, came out the same; 1: one did not, and both are shown.
    With --train, 1 says that the run failed a check and is kept apart.
    """
    past, out = read_transcript(transcript), console(json_to)
    if train:
        learned = add_to_data(past, train)
        if learned.reason:
            out.print(f"kept apart: {learned.path}", markup=False)
            out.print(Text(escape(f"  {learned.reason}: {learned.detail}"), style="yellow"))
        else:
            out.print(f"{'added to' if learned.added else 'was there already:'} {learned.path}", markup=False)
        value = {"added": learned.added, "file": str(learned.path)}
        emit_json(json_to, {**value, "reason": learned.reason or None, "detail": learned.detail or None})
        if learned.reason:
            sys.exit(1)
        return
    folder = bundle or past.header.get("bundle")
    if not folder:
        raise DataError("the transcript names no bundle", where=transcript, fix="give --bundle")
    rows = []
    with ExitStack() as stack:
        decoding = Decoding(**past.header.get("decoding", {}))
        dualtune = stack.enter_context(
            DualTune.load(folder, model, decoding=decoding, routing=past.header.get("routing", "auto"))
        )
        for row in replay(past, dualtune):
            rows.append({**asdict(row), "same": row.same})
            out.print(
                Text(f"{row.what}: {'the same' if row.same else 'different'}", "green" if row.same else "bold red")
            )
            for label, value in (("recorded", row.before), ("now", row.now)) if not row.same else ():
                out.print(Text(f"  {label}: {escape(json.dumps(value, ensure_ascii=False))}"), soft_wrap=True)
    emit_json(json_to, rows)
    sys.exit(0 if all(row["same"] for row in rows) else 1)
