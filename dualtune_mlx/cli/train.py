"""``dualtune train {planner,router,selector,arguments,all}``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.bundle.summary import describe_grounding
from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, progress
from dualtune_mlx.cli.train_flags import train_flags
from dualtune_mlx.errors import escape
from dualtune_mlx.prompts import ARGUMENT_CARDS, CARD_KINDS
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training import (
    PRESETS,
    STAGES,
    ConfigFile,
    Job,
    Progress,
    RunResult,
    SessionEvent,
    TrainConfig,
    TrainingSession,
    merge_config,
)
from dualtune_mlx.training.config import SHARDS
from dualtune_mlx.training.left_out import describe_left_out
from dualtune_mlx.training.session import AllFinished, RunFailed, RunFinished, RunSkipped, RunStarted, StepTaken

ALL = "all"
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
NOTES = 10
NAMED = 8
"""Arguments that a line names at most; the report and `bundle show` have all."""
STOPPED = "Stopped. The last whole step is kept; to go on: {command}"
ONLY_WITH = {"scope": "arguments", "min_examples": ALL, "shard": ALL}


@click.command("train")
@click.argument("stage", type=click.Choice([*STAGES, ALL]))
@options.model
@click.option("--data", metavar="DIR", help="Folder with train.jsonl and valid.jsonl.")
@click.option("--bundle", metavar="DIR", help="Bundle folder; made when missing.")
@click.option("--start", metavar="DIR", help="Bundle whose adapters training continues from, instead of new ones.")
@click.option("--config", "file", metavar="FILE", help="YAML file with these options, for all stages or for one each.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help=options.PRESET_HELP)
@click.option("--template", metavar="T", help=f"{options.TEMPLATE_HELP}  [default: {TrainConfig.template}]")
@click.option("--cards", type=click.Choice(CARD_KINDS), help=f"{options.CARDS_HELP}  [default: {TrainConfig.cards}]")
@click.option(
    "--argument-card",
    type=click.Choice(ARGUMENT_CARDS),
    help=f"{options.ARGUMENT_CARD_HELP}  [default: {TrainConfig.argument_card}]",
)
@click.option(
    "--routing", type=click.Choice(ROUTINGS), help=f"{options.ROUTING_HELP}  [default: {TrainConfig.routing}]"
)
@click.option("--scope", metavar="SERVER[/TOOL]", help="With arguments: an adapter for this server or tool alone.")
@click.option(
    "--min-examples",
    type=click.IntRange(1),
    help=f"With all: train a tool's own adapter from this many calls on.  [default: {TrainConfig.min_examples}]",
)
@click.option(
    "--shard",
    type=click.Choice(SHARDS),
    help=f"With all under mlx.launch: what the processes share.  [default: {TrainConfig.shard}]",
)
@click.option("--resume", is_flag=True, help="Skip what is finished, continue from the last checkpoint.")
@train_flags
@click.pass_context
def command(
    context: click.Context, /, stage: str, file: str | None, scope: str | None, resume: bool, **given: Any
) -> None:
    """Train a stage's adapter, or all adapters, into a bundle.

    Of each adapter, the weights with the lowest validation loss are kept.

    STAGE is one stage, or all: the selector, the argument adapter for every tool, and argument adapters for each
    server and each tool that has enough calls; before them the planner, where requests have parts, and the router,
    where there are many tools. What all has finished before is not trained again.

    Flags override the options of --config, and these override the preset. Ctrl-C keeps the run's state and exits with
    130; the same command with --resume goes on.
    """
    flags = {name: value for name, value in given.items() if value not in (None, ())}
    for name, needed in ONLY_WITH.items():
        if stage != needed and (scope if name == "scope" else name in flags):
            raise click.UsageError(f"--{name.replace('_', '-')} is for: dualtune train {needed}.")
    config = merge_config(ConfigFile.read(file) if file else None, flags)
    try:
        session = TrainingSession(config)
        with TrainPrinter(config.bundle, console(None, quiet=not session.group.is_main)) as show:
            if stage == ALL:
                session.train_all(show, resume=resume)
            else:
                session.train_one(Job(stage, scope or ""), show, skip=resume, resume=resume)
    except KeyboardInterrupt:
        click.echo(STOPPED.format(command=f"dualtune train {stage} … --resume"), err=True)
        context.exit(INTERRUPTED)


class TrainPrinter:
    """Prints a session's events, unless the console is quiet. As a context it ends the bar of an interrupted run."""

    def __init__(self, bundle: str, out: Console) -> None:
        self.bundle = bundle
        self.out = out
        self._open = ExitStack()
        self._said: Sequence[str] = ()
        self._bar: Callable[[int, int, str], None] = lambda done, total, words: None

    def __enter__(self) -> TrainPrinter:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __call__(self, event: SessionEvent) -> None:
        match event:
            case RunStarted(job, notes):
                self._said = notes
                self._print_notes(notes)
                self._bar = self._open.enter_context(progress(self.out, f"train {job.title}"))
            case StepTaken(_, state):
                self._bar(state.step, state.steps, words(state))
            case RunFinished(_, result, folder):
                self._open.close()
                self._print_notes([note for note in result.notes if note not in self._said])
                self._print_result(result, folder / "report.html")
            case RunSkipped(job):
                self.out.print(f"{job.title}: finished before, skipped", markup=False, soft_wrap=True)
            case RunFailed(job, error):
                self._open.close()
                self.warn(f"{job.title} is left out: {error}")
            case AllFinished(jobs):
                if not self.out.quiet:
                    self.out.print(summary(Bundle.open(self.bundle), jobs))

    def _print_notes(self, notes: Sequence[str]) -> None:
        for note in notes[:NOTES]:
            self.warn(f"Warning: {note}")
        if len(notes) > NOTES:
            self.warn(f"… and {len(notes) - NOTES} more, in the report")

    def _print_result(self, result: RunResult, report: Path) -> None:
        self.out.print(f"{outcome(result)}; written to {self.bundle}, report: {report}", markup=False, soft_wrap=True)
        for what, names in describe_grounding(result.copies.grounding, result.copies.ungrounded, NAMED).items():
            self.out.print(f"  {what}: {names}", markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line on stderr."""
        if not self.out.quiet:
            click.echo(escape(text), err=True)


def outcome(result: RunResult) -> str:
    """What came out of a run, in a few words."""
    trained = result.trained
    text = f"{result.job.title}: validation loss {trained.validation_loss:.4f} at step {trained.best_step}"
    right, asked = result.accuracy or (0, 0)
    choices = f"{right / asked:.1%} of {asked} choices right" if asked else ""
    return ", ".join(filter(None, (text, choices, describe_left_out(result.left_out))))


def summary(bundle: Bundle, jobs: Sequence[Job]) -> Table:
    """A row for each adapter, from the facts in the bundle."""
    caption = f"reports: {bundle.folder / 'runs' / 'RUN' / 'report.html'}"
    table = Table("adapter", "examples", "best step", "loss", "right", "run", caption=Text(caption))
    for job in jobs:
        entry = bundle.stages.get((job.stage, job.scope))
        if entry is None:  # it failed, or lies on another machine
            table.add_row(Text(job.title), "not here")
            continue
        facts = entry.training
        asked = facts.get("validation_asked")
        table.add_row(
            Text(job.title, overflow="fold"),
            f"{facts['examples']:,}",
            f"{facts['best_step']:,}",
            f"{facts['validation_loss']:.4f}",
            f"{facts['validation_right'] / asked:.1%}" if asked else "",
            Text(entry.path, overflow="fold"),
        )
    return table


def words(state: Progress) -> str:
    """Loss, speed and memory of a step."""
    speed, memory = f"{state.tokens_per_second:.0f} tokens/s", f"{state.peak_memory / 2**30:.1f} GiB"
    return f"loss {state.loss:.3f} · {speed} · peak {memory}"
