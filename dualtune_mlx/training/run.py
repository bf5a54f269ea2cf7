"""One adapter's training run, from trajectories into a bundle.

BUNDLE/runs/selector/config.yaml       the configuration
BUNDLE/runs/selector/log.jsonl         a line a step
BUNDLE/runs/selector/checkpoints/      the latest states, until the adapter is in the bundle
BUNDLE/runs/selector/report.html       the run's report
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import adapter_path
from dualtune_mlx.data.decisions import ends_after_result
from dualtune_mlx.decoding import CopyReport, Evidence
from dualtune_mlx.errors import TrainingError, UsageError, count_of
from dualtune_mlx.files import lock_folder, remove_leftovers, require_no_links, write_text
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, span_name
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.accuracy import selection_accuracy
from dualtune_mlx.training.bundles import open_or_create
from dualtune_mlx.training.checkpoints import Checkpoints, TrainState
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.estimate import (
    GIB,
    RunEstimate,
    StageEstimate,
    check_budget,
    estimate_run,
    estimate_time,
    usable_memory,
)
from dualtune_mlx.training.examples import StageExamples, decisions_of_stage, stage_examples
from dualtune_mlx.training.grounded import report_stage_copies
from dualtune_mlx.training.group import ALONE, Group
from dualtune_mlx.training.jobs import Job
from dualtune_mlx.training.left_out import count_left_out
from dualtune_mlx.training.log import Log, read_log
from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.report import make_report, write_report
from dualtune_mlx.training.trainer import Callback, Progress, Trainer, TrainResult

HELD_OUT = 10
NO_ENDS = (
    "no line of the training data has an answer behind a call's result, so no adapter learns when a task is done: "
    'let some lines go on, with {"role": "tool", "content": "…"} and {"role": "assistant", "content": "Done."}'
)
NOT_IN_KEY = ("checkpoint_every", "keep", "memory_budget")
"""Options that do not change what is learned."""


@dataclass(frozen=True)
class RunSetup:
    """What several runs share: model, data, and the bundle that they write into."""

    base: BaseModel
    """The model; its weights do not change."""
    renderer: PromptRenderer
    """Turns conversations into token streams."""
    train_set: Sequence[Trajectory]
    """The conversations that are learned."""
    valid_set: Sequence[Trajectory]
    """The conversations that the best weights are chosen by."""
    bundle: str | Path
    """The bundle's folder; the first run makes it."""
    group: Group = ALONE
    """The processes that share every step's examples."""
    hierarchical: bool = False
    """Whether a stage is shown the tools of one node of their hierarchy instead of all tools."""
    evidence: Evidence | None = None
    """The weight of lexical evidence that a new bundle begins with: that of the bundle that it starts from."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    job: Job
    """The adapter that was trained."""
    trained: TrainResult
    """The adapter, and how its training went."""
    accuracy: tuple[int, int] | None = None
    """(right, asked) choices on the validation set; None where the stage chooses nothing."""
    notes: tuple[str, ...] = ()
    """What is to be known about the data and the run, a sentence each."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Decisions of the training data that are not learned, by reason."""
    copies: CopyReport = field(default_factory=CopyReport)
    """Which strings that the stage writes are copied in the training data."""


class TrainingRun:
    """One training run. Making it prepares and checks everything; ``train`` trains.

    Args:
        job: the adapter to be trained.
        options: how to train it.
        setup: model, data and bundle.
        contexts: keeps the base model's keys and values of contexts, shared with other runs over the same data.
        start: an adapter to continue from, instead of a new one.

    Raises:
        BundleError: when the bundle belongs to another model, template or kind of card.
        DataError: when the data has no example of the stage.
    """

    def __init__(
        self,
        job: Job,
        options: TrainOptions,
        setup: RunSetup,
        *,
        contexts: ContextCache | None = None,
        start: Adapter | None = None,
    ) -> None:
        self.job, self.options, self.setup = job, options, setup
        self.contexts, self.start = contexts, start
        self.bundle = open_or_create(setup.bundle, setup.base, setup.renderer, setup.evidence)
        self.folder = Path(setup.bundle) / "runs" / adapter_path(job.stage, job.scope)
        self.copies, slips = report_stage_copies(job.stage, setup.train_set, job.scope)
        self.training, self.validation, notes = self._prepare()
        self.notes = (*notes, slips) if slips else notes
        self.key = self._key()

    @property
    def left_out(self) -> dict[str, int]:
        """Decisions of the training data that are not learned, by reason."""
        return count_left_out(self.setup.train_set, self.job.stage, self.job.scope)

    @property
    def is_finished(self) -> bool:
        """Whether the main process's bundle holds the adapter of this very run."""
        entry = self.bundle.stages.get((self.job.stage, self.job.scope))
        return bool(self.setup.group.broadcast_json(entry is not None and entry.training.get("run") == self.key))

    def train(
        self,
        report: Callback = lambda progress: None,
        *,
        resume: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Train, and put the adapter with the lowest validation loss into the bundle.

        Args:
            report: called after every step.
            resume: continue from the last checkpoint, where there is one.
            config: what to save as ``config.yaml``; the options, where left out.

        Raises:
            TrainingError: when the run would need more memory than its budget, or a loss is not a finite number.
            CheckpointError: when the checkpoint to continue from is damaged, or belongs to another run.
            UsageError: when the adapter to continue from does not fit the options, when another process trains in the
                run's folder, or when a file of the run cannot be written.
        """
        group, job = self.setup.group, self.job
        trainer = self.trainer()
        if self.options.memory_budget:
            # The main process's figures, so that all processes go on or none does.
            estimate = RunEstimate(**group.broadcast_json(asdict(estimate_run(trainer))))
            check_budget(estimate, self.options.memory_budget, job.title)
        checkpoints = self._checkpoints()
        state = trainer.broadcast(checkpoints.latest() if resume and group.is_main else None)
        if not group.is_main:
            return RunResult(job, trainer.run(state, report), left_out=self.left_out)
        with lock_folder(self.folder, "another process trains in this folder"), _hint_at(checkpoints):
            callback = self._open_files(checkpoints, state, report, config or self.options.to_dict())
            trained = trainer.run(state, callback, checkpoints)
            accuracy = self._accuracy(trained.adapter) if span_name(job.stage) == "selector" else None
            self._write(trained, accuracy)
            checkpoints.clear()
        return RunResult(job, trained, accuracy, self.notes, self.left_out, self.copies)

    def tidy_up(self) -> None:
        """Remove what a finished run has left, where its program was ended after the adapter was in the bundle."""
        if self.setup.group.is_main and self.folder.is_dir():
            remove_leftovers(self.folder)
            self._checkpoints().clear()

    def _checkpoints(self) -> Checkpoints:
        """The run's states.

        Raises:
            UsageError: when a link leads to them, for they would be written and removed through it.
        """
        checkpoints = Checkpoints(self.folder / "checkpoints", self.key, self.options.keep)
        require_no_links(self.bundle.folder, checkpoints.folder)
        return checkpoints

    def trainer(self) -> Trainer:
        """The trainer of this run's adapter, before its first step."""
        budget = self.options.keep_contexts * GIB
        return Trainer(
            self.setup.base,
            self.training.examples,
            self.validation.examples,
            self.options,
            group=self.setup.group,
            contexts=self.contexts or (ContextCache(budget) if budget else None),
            start=self.start,
        )

    def estimate(self) -> StageEstimate:
        """Predict what this run will need, from steps that change nothing."""
        trainer = self.trainer()
        return StageEstimate(
            stage=self.job.stage,
            examples=len(self.training.examples),
            prefix_tokens=max(map(len, trainer.prefixes.all), default=0),
            steps=trainer.steps,
            budget=self.options.memory_budget * GIB or usable_memory(),
            run=estimate_run(trainer),
            time=estimate_time(trainer),
            left_out=self.left_out,
        )

    def _accuracy(self, adapter: Adapter) -> tuple[int, int]:
        setup = self.setup
        return selection_accuracy(
            setup.base,
            setup.renderer,
            stage=self.job.stage,
            adapter=adapter,
            trajectories=setup.valid_set,
            hierarchical=setup.hierarchical,
        )

    def _open_files(
        self, checkpoints: Checkpoints, state: TrainState, report: Callback, config: Mapping[str, Any]
    ) -> Callback:
        """Save the configuration and open the log; the callback that logs every step before it reports it."""
        if state.step == 0:
            checkpoints.clear()
        write_text(self.folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        log = Log(self.folder / "log.jsonl", state.step)

        def log_and_report(progress: Progress) -> object:
            try:
                log(progress)
            except KeyboardInterrupt:
                log(progress)  # the step is in the state that is saved
                raise
            return report(progress)

        return log_and_report

    def _write(self, trained: TrainResult, accuracy: tuple[int, int] | None) -> None:
        facts: dict[str, Any] = {
            **self.options.to_dict(),
            "hierarchical": self.setup.hierarchical,
            "run": self.key,
            "start": self.start.content_hash if self.start else "",
            "examples": len(self.training.examples),
            "best_step": trained.best_step,
            "validation_loss": trained.validation_loss,
            "ended": trained.stop_reason,
        }
        if accuracy:
            facts["validation_right"], facts["validation_asked"] = accuracy
        tools = [tool for trajectory in self.setup.train_set for tool in trajectory.tools]
        self.bundle.add_adapter(
            self.job.stage, self.job.scope, trained.adapter, training=facts, tools=tools, **asdict(self.copies)
        )
        history = read_log(self.folder / "log.jsonl")
        if not history:
            raise TrainingError(
                "the run's log was removed meanwhile, so there is no report",
                where=self.folder / "log.jsonl",
                fix="none is needed: the adapter is in the bundle",
            )
        self.notes += _notes_on(history, self.options.validate_every)
        write_report(self.folder / "report.html", make_report(self, trained, accuracy, history))

    def _prepare(self) -> tuple[StageExamples, StageExamples, tuple[str, ...]]:
        """The examples to learn from, those for validation, and what is to be known about them."""
        setup, job = self.setup, self.job
        training = self._examples(setup.train_set)
        notes = []
        if job.stage != "arguments" and not any(map(ends_after_result, setup.train_set)):
            notes.append(NO_ENDS)
        if any(any(decisions_of_stage(trajectory, job.stage, job.scope)) for trajectory in setup.valid_set):
            validation = self._examples(setup.valid_set)
        else:
            training, validation = hold_out(training)
            apart = f"{len(validation.examples)} training examples, every {HELD_OUT}th conversation, were held out"
            if training.examples == validation.examples:
                apart = "the only training conversation is measured"
            notes.append(f"the validation data has no example of this: {apart} instead")
        for name, examples in (("training", training), ("validation", validation)):
            if examples.cut:
                notes.append(
                    f"oldest exchanges left out to fit the window: in {count_of(examples.cut, f'{name} example')}"
                )
            notes += [f"{name} example dropped: {reason}" for reason in examples.dropped]
        return training, validation, tuple(notes)

    def _examples(self, trajectories: Sequence[Trajectory]) -> StageExamples:
        window = min(filter(None, (self.options.window, self.setup.base.context_length)), default=0)
        return stage_examples(
            trajectories,
            self.setup.renderer,
            self.job.stage,
            self.options.activation,
            scope=self.job.scope,
            window=window,
            hierarchical=self.setup.hierarchical,
        )

    def _key(self) -> str:
        """A hash of all that the adapter depends on: two runs with the same key train the same adapter."""
        digest = hashlib.sha256(self.setup.base.fingerprint.encode())
        options = {name: value for name, value in self.options.to_dict().items() if name not in NOT_IN_KEY}
        template = self.setup.renderer.template.hash
        digest.update(json.dumps([template, self.job.stage, self.job.scope, options]).encode())
        for example in (*self.training.examples, *self.validation.examples):
            spans = [(target.start, target.end) for target in example.targets]
            digest.update(repr((example.tokens, example.active, spans)).encode())
        if self.start:
            digest.update(self.start.content_hash.encode())
        return digest.hexdigest()


@contextmanager
def _hint_at(checkpoints: Checkpoints) -> Iterator[None]:
    """Where a file cannot be written, say what is kept of the run."""
    try:
        yield
    except UsageError as error:
        steps = checkpoints.steps()
        kept = f"resuming goes on after step {steps[-1]}" if steps else "no checkpoint is left to resume from"
        fix = "; ".join(filter(None, (error.fix, kept)))
        raise UsageError(error.what, where=error.where, got=error.got, fix=fix) from error


def _notes_on(history: Sequence[Progress], validate_every: int) -> tuple[str, ...]:
    """What is to be known about a run with this log."""
    measured = [progress.step for progress in history if progress.validation_loss is not None]
    if len(history) < history[-1].step:
        return (f"the log has only {len(history)} of {count_of(history[-1].step, 'step')}: it was removed meanwhile",)
    if validate_every and len(measured) <= 1:
        return (
            "the validation loss was measured once, at the end: the last weights were kept, none were chosen; "
            f"measure more often than every {count_of(validate_every, 'step')} (validate_every)",
        )
    return ()


def hold_out(examples: StageExamples) -> tuple[StageExamples, StageExamples]:
    """Split off every tenth conversation for validation; a single conversation is in both parts."""
    conversations = sorted({example.conversation for example in examples.examples})
    apart = set(conversations[::HELD_OUT])
    held_out = tuple(example for example in examples.examples if example.conversation in apart)
    rest = tuple(example for example in examples.examples if example.conversation not in apart)
    return replace(examples, examples=rest or held_out), StageExamples(held_out, 0, ())
