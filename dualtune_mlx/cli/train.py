"""``dualtune train {planner,router,selector,arguments,all}``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import mlx.core as mx
from rich.table import Table
from rich.text import Text

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.cli import options
from dualtune_mlx.cli.output import console, progress
from dualtune_mlx.cli.train_flags import train_flags
from dualtune_mlx.data import read_split
from dualtune_mlx.errors import TrainingError, UsageError
from dualtune_mlx.models import load_model
from dualtune_mlx.prompts import CARD_KINDS, PromptRenderer, Template
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.training import PRESETS, STAGES, Finished, Group, Job, Progress, Run, all_jobs
from dualtune_mlx.training.config import SHARDS, ConfigFile, TrainConfig, merged
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.group import ALONE
from dualtune_mlx.training.memory import GIB
from dualtune_mlx.training.run import open_for

ALL = "all"
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
NOTES = 10
ONLY_WITH = {"scope": "arguments", "min_examples": ALL, "shard": ALL}


@click.command("train")
@click.argument("stage", type=click.Choice([*STAGES, ALL]))
@options.model
@click.option("--data", metavar="DIR", help="Folder with train.jsonl and valid.jsonl.")
@click.option("--bundle", metavar="DIR", help="Bundle folder; made when missing.")
@click.option("--start", metavar="DIR", help="Bundle whose adapters are gone on from, instead of new ones.")
@click.option("--config", "file", metavar="FILE", help="YAML file with these options, for all stages or for one each.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="What all else is laid over; paper: DualTune's.")
@click.option("--template", metavar="T", help=f"{options.TEMPLATE_HELP}  [default: {TrainConfig.template}]")
@click.option("--cards", type=click.Choice(CARD_KINDS), help=f"{options.CARDS_HELP}  [default: {TrainConfig.cards}]")
@click.option(
    "--routing", type=click.Choice(ROUTINGS), help=f"{options.ROUTING_HELP}  [default: {TrainConfig.routing}]"
)
@click.option("--scope", metavar="SERVER[/TOOL]", help="With arguments: an adapter for this server or tool alone.")
@click.option(
    "--min-examples",
    type=click.IntRange(1),
    help=f"With all: calls that earn a tool an adapter of its own.  [default: {TrainConfig.min_examples}]",
)
@click.option(
    "--shard",
    type=click.Choice(SHARDS),
    help=f"With all under mlx.launch: what the processes share.  [default: {TrainConfig.shard}]",
)
@click.option("--resume", is_flag=True, help="Skip what is finished, go on from the last checkpoint.")
@train_flags
@click.pass_context
def command(
    context: click.Context, /, stage: str, file: str | None, scope: str | None, resume: bool, **given: Any
) -> None:
    """Train adapters on the data and put the best ones, by validation loss, into the bundle.

    STAGE is one stage, or all: the selector, the argument adapter for every tool, and argument adapters for each
    server and each tool that has enough calls; before them the planner, where requests have parts, and the router,
    where there are many tools. What all has finished before is not trained again.

    Options are laid over those of --config, and these over the preset. Ctrl-C keeps the run's state and exits with
    130; the same command with --resume goes on.
    """
    flags = {name: value for name, value in given.items() if value not in (None, ())}
    for name, needed in ONLY_WITH.items():
        if stage != needed and (scope if name == "scope" else name in flags):
            raise click.UsageError(f"--{name.replace('_', '-')} is for: dualtune train {needed}.")
    config = merged(ConfigFile.read(file) if file else None, flags)
    training = Training(config)
    try:
        if stage == ALL:
            training.all(resume)
        else:
            training.one(Job(stage, scope or ""), skip=resume, resume=resume)
    except KeyboardInterrupt:
        training.warn(f"Stopped. The last whole step is kept; to go on: dualtune train {stage} … --resume")
        context.exit(INTERRUPTED)


class Training:
    """The runs of one command, over one resident model."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.team = Group.launched()
        self.out = console(None, quiet=not self.team.is_main)
        self.train_set, self.valid_set = read_split(config.data, "train"), read_split(config.data, "valid")
        self.base = load_model(config.model)
        self.prompt = PromptRenderer(Template(config.template), self.base.tokenizer, config.cards)
        self.start = open_for(config.start, self.base, self.prompt) if config.start else None
        self.kept: dict[float, ContextCache] = {}
        routed = any(has_router(folder) for folder in (config.bundle, config.start) if folder)
        self.hierarchical = config.routing == "always" or (config.routing == "auto" and routed)

    def all(self, resume: bool) -> None:
        """Train every adapter that the data is good for."""
        jobs = all_jobs(self.train_set, self.config.min_examples, self.config.routing)
        self.hierarchical = self.hierarchical or any(job.stage == "router" for job in jobs)
        alone = self.config.shard == "adapters"
        failed = []
        for job in self.team.shard(jobs) if alone else jobs:
            try:
                self.one(job, skip=True, resume=resume, team=ALONE if alone else self.team)
            except TrainingError as error:
                self.warn(f"{job.title} is left out: {error}")
                failed.append(job.title)
        mx.eval(self.team.all_sum(mx.array(0)))  # the table waits for the other processes' adapters
        if self.team.is_main:
            self.out.print(summary(Bundle.open(self.config.bundle), jobs))
        if failed:
            raise TrainingError(
                "some adapters could not be trained",
                where=", ".join(failed),
                fix="see their messages above; the same command trains only what is missing",
            )

    def one(self, job: Job, skip: bool, resume: bool, team: Group | None = None) -> None:
        """Train one adapter, or say that it is there already."""
        config = self.config
        team = team or self.team
        options = config.stages[job.stage]
        data = self.train_set, self.valid_set
        kept = self._kept(options.keep_contexts)
        start = self._start(job)
        run = Run(job, self.base, self.prompt, *data, config.bundle, options, team, kept, self.hierarchical, start)
        if skip and run.is_finished:
            self.out.print(f"{job.title}: finished before, skipped", markup=False, soft_wrap=True)
            return
        with progress(self.out, f"train {job.title}") as bar:
            finished = run(lambda state: bar(state.step, state.steps, words(state)), resume, config.to_dict())
        self._show(finished, config.bundle, run.folder / "report.html")

    def _start(self, job: Job) -> Adapter | None:
        """The adapter that serves the job's calls in the bundle that is gone on from."""
        if self.start is None:
            return None
        found = self.start.adapter_in(job.stage, job.scope)
        if found is None:
            raise UsageError(
                "the bundle to go on from has no adapter for this",
                where=self.start.folder,
                got=", ".join(stage for stage, _ in self.start.stages),
                expected=job.title,
                fix="train this stage without --start",
            )
        return found[1]

    def _kept(self, gib: float) -> ContextCache | None:
        """The contexts that all stages with this budget share."""
        return self.kept.setdefault(gib, ContextCache(gib * GIB)) if gib else None

    def _show(self, finished: Finished, bundle: str, report: Path) -> None:
        for note in finished.notes[:NOTES]:
            self.warn(f"Warning: {note}")
        if len(finished.notes) > NOTES:
            self.warn(f"… and {len(finished.notes) - NOTES} more, in the report")
        self.out.print(f"{outcome(finished)}; written to {bundle}, report: {report}", markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line on stderr, from the process that speaks."""
        if self.team.is_main:
            click.echo(text, err=True)


def has_router(bundle: str) -> bool:
    """Whether there is a bundle with a router."""
    return (Path(bundle) / MANIFEST).exists() and ("router", "") in Bundle.open(bundle).stages


def outcome(finished: Finished) -> str:
    """What came out of a run, in a few words."""
    trained = finished.trained
    text = f"{finished.job.title}: validation loss {trained.validation_loss:.4f} at step {trained.best_step}"
    right, asked = finished.accuracy or (0, 0)
    return f"{text}, {right / asked:.1%} of {asked} choices right" if asked else text


def summary(bundle: Bundle, jobs: Sequence[Job]) -> Table:
    """A row for each adapter, from the facts in the bundle."""
    caption = f"reports: {bundle.folder / 'runs' / 'RUN' / 'report.html'}"
    table = Table("adapter", "examples", "best step", "loss", "right", "run", caption=Text(caption))
    for job in jobs:
        slot = bundle.stages.get((job.stage, job.scope))
        if slot is None:  # it failed, or lies on another machine
            table.add_row(Text(job.title), "not here")
            continue
        facts = slot.training
        asked = facts.get("validation_asked")
        table.add_row(
            Text(job.title, overflow="fold"),
            f"{facts['examples']:,}",
            f"{facts['best_step']:,}",
            f"{facts['validation_loss']:.4f}",
            f"{facts['validation_right'] / asked:.1%}" if asked else "",
            Text(slot.path, overflow="fold"),
        )
    return table


def words(state: Progress) -> str:
    """Loss, speed and memory of a step."""
    speed, memory = f"{state.tokens_per_second:.0f} tokens/s", f"{state.peak_memory / 2**30:.1f} GiB"
    return f"loss {state.loss:.3f} · {speed} · peak {memory}"
