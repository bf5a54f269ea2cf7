"""All training runs of one configuration, over one model in memory.

config = merge_config(ConfigFile.read("train.yaml"), {})
train_all(config, resume=True)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.data import read_split
from dualtune_mlx.errors import TrainingError, UsageError
from dualtune_mlx.models import BaseModel, load_model
from dualtune_mlx.prompts import PromptRenderer, template_for
from dualtune_mlx.training.bundles import open_start
from dualtune_mlx.training.config import TrainConfig
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.estimate import GIB, Pace, StageEstimate, measure_pace
from dualtune_mlx.training.examples import check_arguments_writable
from dualtune_mlx.training.group import ALONE, Group
from dualtune_mlx.training.jobs import Job, all_jobs, needs_router
from dualtune_mlx.training.run import RunResult, RunSetup, TrainingRun
from dualtune_mlx.training.trainer import Progress

ESTIMATED = ("selector", "arguments")
"""The stages whose training is estimated: every bundle has them, and their runs are the largest."""


@dataclass(frozen=True)
class RunStarted:
    """A run begins."""

    job: Job
    notes: tuple[str, ...] = ()
    """What is to be known about the data, a sentence each."""


@dataclass(frozen=True)
class StepTaken:
    """A run has taken a step."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class RunFinished:
    """A run has ended, and its adapter is in the bundle."""

    job: Job
    result: RunResult
    folder: Path
    """The run's folder, with ``report.html``."""


@dataclass(frozen=True)
class RunSkipped:
    """A run is left out: the bundle has its adapter already."""

    job: Job


@dataclass(frozen=True)
class RunFailed:
    """A run has ended without an adapter; the next one follows."""

    job: Job
    error: TrainingError


@dataclass(frozen=True)
class AllFinished:
    """All processes are through with all jobs."""

    jobs: tuple[Job, ...]
    """All jobs of the session, those of other processes included."""
    failed: Mapping[Job, TrainingError]
    """The jobs of this process that failed."""


SessionEvent = RunStarted | StepTaken | RunFinished | RunSkipped | RunFailed | AllFinished
SessionCallback = Callable[[SessionEvent], object]
"""Called with every event.

Returning True for a ``StepTaken`` ends this run after the step: its best adapter goes into the bundle, and the next
run follows. Raising ``KeyboardInterrupt`` stops the session: the run's state is saved, and ``resume=True`` continues
from it. Of several processes, all must answer the same.
"""


def train_all(
    config: TrainConfig, report: SessionCallback = lambda _: None, *, resume: bool = False
) -> list[RunResult]:
    """Train every adapter that the configuration's data has enough examples for; see ``TrainingSession.train_all``."""
    return TrainingSession(config).train_all(report, resume=resume)


def estimate_training(config: TrainConfig, report: Callable[[str], object] = lambda stage: None) -> list[StageEstimate]:
    """Measure what training the selector and the argument adapter for all calls will need.

    Nothing is trained or written, and the configuration's bundle is not read.

    Args:
        config: model, data, and each stage's options.
        report: called with each stage before it is measured.

    Raises:
        UsageError, DataError: when the data cannot be read, or has no example of a stage.
        ModelError: when the model cannot be loaded.
    """
    estimates = []
    with _open_estimated(config) as runs:
        for run in runs:
            report(run.job.stage)
            estimates.append(run.estimate())
    return estimates


def measure_paces(config: TrainConfig) -> dict[str, Pace]:
    """Measure, in a few steps that change nothing, how long a step of each of these stages takes.

    Raises:
        UsageError, DataError, ModelError: as ``estimate_training``.
    """
    with _open_estimated(config) as runs:
        return {run.job.stage: measure_pace(run.trainer()) for run in runs}


@contextmanager
def _open_estimated(config: TrainConfig) -> Iterator[Iterator[TrainingRun]]:
    """The runs of the stages that are estimated, over a folder without a bundle; each is prepared when it comes."""
    train_set, valid_set = read_split(config.data, "train"), read_split(config.data, "valid")
    check_arguments_writable([*train_set, *valid_set])
    base = load_model(config.model)
    renderer = _renderer(config, base)
    hierarchical = needs_router(train_set, config.routing)
    with tempfile.TemporaryDirectory() as empty:
        setup = RunSetup(base, renderer, train_set, valid_set, empty, hierarchical=hierarchical)
        yield (TrainingRun(Job(stage), config.stages[stage], setup) for stage in ESTIMATED)


class TrainingSession:
    """The training runs of one configuration. Making it reads the data and loads the model.

    Args:
        config: model, data, bundle, and each stage's options.
        group: the processes that train together; by default those that ``mlx.launch`` started.

    Raises:
        UsageError, DataError: when the data cannot be read.
        ModelError: when the model cannot be loaded.
        BundleError: when the bundle to start from is missing, or is for another model or template.
    """

    def __init__(self, config: TrainConfig, group: Group | None = None) -> None:
        self.config = config
        group = group or Group.join()
        train_set, valid_set = read_split(config.data, "train"), read_split(config.data, "valid")
        base = load_model(config.model)
        renderer = _renderer(config, base)
        self.start = open_start(config.start, base, renderer) if config.start else None
        has_router = any(_has_router(folder) for folder in (config.bundle, config.start) if folder)
        self.setup = RunSetup(
            base,
            renderer,
            train_set,
            valid_set,
            config.bundle,
            group=group,
            hierarchical=config.routing == "always" or (config.routing == "auto" and has_router),
            evidence=self.start.evidence if self.start else None,
        )
        self._contexts: dict[float, ContextCache] = {}

    @property
    def group(self) -> Group:
        """The processes that train together."""
        return self.setup.group

    def jobs(self) -> list[Job]:
        """All adapters that the data has enough examples for."""
        return all_jobs(self.setup.train_set, self.config.min_examples, self.config.routing)

    def train_all(self, report: SessionCallback = lambda _: None, *, resume: bool = False) -> list[RunResult]:
        """Train every adapter that the data has enough examples for, and skip those that were trained before.

        A run that fails does not keep the others from running.

        Args:
            report: called with every event; can end a run or stop the session.
            resume: continue an unfinished run from its last checkpoint.

        Returns:
            The results of the runs of this process, without those that were skipped.

        Raises:
            TrainingError: at the end, when runs have failed.
        """
        jobs = self.jobs()
        setup = self.setup
        if any(job.stage == "arguments" for job in jobs):  # not after hours, in the middle of the session
            check_arguments_writable([*setup.train_set, *setup.valid_set])
        if any(job.stage == "router" for job in jobs):
            setup = replace(setup, hierarchical=True)
        own = jobs
        if self.config.shard == "adapters":
            own, setup = list(self.group.shard(jobs)), replace(setup, group=ALONE)
        results: list[RunResult] = []
        failed: dict[Job, TrainingError] = {}
        for job in own:
            try:
                result = self._train(job, setup, report, skip=True, resume=resume)
            except TrainingError as error:
                failed[job] = error
                report(RunFailed(job, error))
            else:
                results += [result] if result else []
        self.group.wait()  # for the adapters of the other processes
        report(AllFinished(tuple(jobs), failed))
        if failed:
            raise TrainingError(
                "some adapters could not be trained",
                where=", ".join(job.title for job in failed),
                fix="see their messages above; the same command trains only what is missing",
            )
        return results

    def train_one(
        self, job: Job, report: SessionCallback = lambda _: None, *, skip: bool = False, resume: bool = False
    ) -> RunResult | None:
        """Train one adapter.

        Args:
            job: the adapter.
            report: called with every event; can end the run or stop the session.
            skip: do nothing when the bundle has this very run's adapter already.
            resume: continue from the last checkpoint, where there is one.

        Returns:
            The run's result; None where it was skipped.

        Raises:
            UsageError: when the bundle to start from has no adapter for the job, or one of another form.
            DataError: when the data has no example for the job.
            TrainingError: when the run cannot go on.
        """
        return self._train(job, self.setup, report, skip=skip, resume=resume)

    def _train(
        self, job: Job, setup: RunSetup, report: SessionCallback, *, skip: bool, resume: bool
    ) -> RunResult | None:
        options = self.config.stages[job.stage]
        run = TrainingRun(
            job, options, setup, contexts=self._contexts_for(options.keep_contexts), start=self._start_adapter(job)
        )
        if skip and run.is_finished:
            run.tidy_up()
            report(RunSkipped(job))
            return None
        report(RunStarted(job, run.notes))
        result = run.train(
            lambda progress: report(StepTaken(job, progress)), resume=resume, config=self.config.to_dict()
        )
        report(RunFinished(job, result, run.folder))
        return result

    def _start_adapter(self, job: Job) -> Adapter | None:
        """The adapter for the job's calls in the bundle to start from."""
        if self.start is None:
            return None
        found = self.start.find_adapter(job.stage, job.scope)
        if found is None:
            raise UsageError(
                "the bundle to go on from has no adapter for this",
                where=self.start.folder,
                got=", ".join(stage for stage, _ in self.start.stages),
                expected=job.title,
                fix="train this stage without --start",
            )
        return found[1]

    def _contexts_for(self, gib: float) -> ContextCache | None:
        """The cache of contexts that all runs with this budget share."""
        return self._contexts.setdefault(gib, ContextCache(gib * GIB)) if gib else None


def _renderer(config: TrainConfig, base: BaseModel) -> PromptRenderer:
    template = template_for(config.template, base.tokenizer, base.vocabulary)
    return PromptRenderer(template, base.tokenizer, config.cards, config.argument_card)


def _has_router(bundle: str) -> bool:
    return (Path(bundle) / MANIFEST).exists() and ("router", "") in Bundle.open(bundle).stages
