"""``dualtune data collect``: requests run against live servers, and what succeeded as trajectories."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from dualtune_mlx.agent import Agent, Limits
from dualtune_mlx.agent.agent import ask_nobody
from dualtune_mlx.agent.collect import ALL, LIMITS, CollectedRun, CollectPolicy, collect
from dualtune_mlx.agent.collected_requests import read_requests
from dualtune_mlx.cli import options
from dualtune_mlx.cli.call import find_start_bundle
from dualtune_mlx.cli.live import RunDisplay
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import count_of, escape
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.mcp.scratch import copy_folder
from dualtune_mlx.models import EMBEDDED


@click.command("collect")
@click.option("--mcp", required=True, type=click.Path(path_type=Path), help="mcpServers file; its servers are started.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data folder; it gets trajectories.jsonl.")
@click.option(
    "--requests",
    type=click.Path(path_type=Path),
    help="A request a line, or a .jsonl data file.  [default: DATA/requests.jsonl]",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle that chooses.  [default: the start bundle]")
@options.model
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="A folder that the configuration names: the servers get a copy of it, and may change that.",
)
@click.option(
    "--approve",
    type=click.Choice(["ask", "auto", "never", ALL]),
    default="auto",
    show_default=True,
    help="As for the agent; all: everything that the servers in the scratch copy do.",
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="Most requests of this run.")
@click.option("--steps", default=LIMITS.steps, show_default=True, help="Most calls of a request.")
@click.option("--seconds", default=LIMITS.seconds, show_default=True, help="Longest run of a request.")
@json_option
def command(
    mcp: Path,
    data: Path,
    requests: Path | None,
    bundle: Path | None,
    model: str | None,
    scratch: Path | None,
    approve: str,
    count: int,
    steps: int,
    seconds: float,
    json_to: str | None,
) -> None:
    """Run requests against live servers; what succeeds becomes trajectories of several steps.

    Without --scratch only tools that only read are called. What fails a check goes to trajectories.rejected.jsonl with
    its reason. Requests that are done are passed over.
    """
    if scratch is None and approve == ALL:
        raise click.UsageError("'--approve all' goes with '--scratch' only.")
    out, configs = console(json_to), read_config(mcp)
    wanted = read_requests(requests or data / "requests.jsonl")
    limits = Limits(steps, seconds, LIMITS.tokens, LIMITS.answer_tokens)
    runs: list[CollectedRun] = []
    with ExitStack() as stack:
        copy = stack.enter_context(copy_folder(scratch)) if scratch else None
        policy = CollectPolicy(configs, approve, copy.names_of(configs) if copy else ())
        toolbox = stack.enter_context(connect(copy.rewrite(configs) if copy else configs))
        dualtune = stack.enter_context(DualTune.load(bundle or find_start_bundle(model or EMBEDDED), model))
        view = stack.enter_context(RunDisplay(out))
        ask = view.ask if out.is_terminal and sys.stdin.isatty() else ask_nobody
        agent = Agent(dualtune, toolbox, policy, ask, limits=limits, transcripts=data / "transcripts")
        for run in collect(agent, wanted, data, scratch=copy, count=count, show=view.show):
            show_run(out, run)
            runs.append(run)
    show_end(out, runs, data)
    emit_json(json_to, [to_json(run) for run in runs])


def show_run(out: Console, run: CollectedRun) -> None:
    """A request, and what became of it."""
    style = "yellow" if run.added.reason else "green"
    became = f"kept apart: {run.added.reason}: {run.added.detail}" if run.added.reason else "kept"
    out.print(Text.assemble((escape(run.request.text), "bold"), "\n", (f"  {escape(became)}\n", style)), soft_wrap=True)


def show_end(out: Console, runs: Sequence[CollectedRun], data: Path) -> None:
    """How many trajectories there are, and why others are none."""
    reasons = Counter(run.added.reason for run in runs)
    kept = reasons.pop("", 0)
    out.print(f"{count_of(len(runs), 'request')}: {kept:,} kept in {data}", markup=False, soft_wrap=True)
    for reason, number in reasons.most_common():
        out.print(f"  kept apart: {number:,} {reason}", markup=False)


def to_json(run: CollectedRun) -> dict[str, Any]:
    return {
        "request": run.request.text,
        "ended": run.ended.reason,
        "steps": run.ended.steps,
        "kept": not run.added.reason,
        "reason": run.added.reason or None,
        "detail": run.added.detail or None,
        "file": str(run.added.path),
        "transcript": run.ended.transcript,
    }
