"""One stage's training run, from trajectories into a bundle.

BUNDLE/runs/selector/config.yaml       what was asked for
BUNDLE/runs/selector/log.jsonl         a line a step
BUNDLE/runs/selector/checkpoints/      the latest states, to resume from, until the adapter is in the bundle
BUNDLE/runs/selector/report.html       the run to look at
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import MANIFEST, Bundle, adapter_path
from dualtune_mlx.data.decisions import Decision, call_decisions, plan_decisions
from dualtune_mlx.decoding import learn_grounding
from dualtune_mlx.errors import BundleError, UsageError
from dualtune_mlx.files import write_text
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, span_name
from dualtune_mlx.tools import PLAN, Trajectory
from dualtune_mlx.training.accuracy import selection_accuracy
from dualtune_mlx.training.checkpoints import Checkpoints, TrainState
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.examples import Prepared, decisions_of_stage, stage_examples
from dualtune_mlx.training.group import ALONE, Group
from dualtune_mlx.training.log import Log, read_log
from dualtune_mlx.training.memory import GIB, MemoryEstimate, check_budget, plan
from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.report.contents import overview
from dualtune_mlx.training.report.page import write_report
from dualtune_mlx.training.trainer import Callback, Progress, Trained, Trainer

HELD_OUT = 10
NOT_THE_RUN = ("checkpoint_every", "keep", "memory_budget")
"""Options that change nothing about what is learned."""


@dataclass(frozen=True)
class Job:
    """One adapter to be trained: a stage, and for arguments the tool or server whose calls it learns."""

    stage: str
    scope: str = ""

    def __post_init__(self) -> None:
        if self.scope and self.stage != "arguments":
            raise UsageError(
                "only argument adapters have a scope", where=self.stage, got=self.scope, fix="leave the scope out"
            )

    @property
    def title(self) -> str:
        return f"{self.stage} · {self.scope}" if self.scope else self.stage


@dataclass(frozen=True)
class Finished:
    """What a run gave; ``accuracy`` counts (right, asked) choices on the validation set."""

    job: Job
    trained: Trained
    accuracy: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


class Run:
    """A job with its model, its data and its options; made before anything is trained, so that it can be checked.

    ``kept`` are contexts that runs over the same data share; without it a run keeps its own. ``hierarchical``: the
    tools that the stage is shown are those of one node of their hierarchy. ``start`` is the adapter that the run goes
    on from, of the form that the options describe; without it, it begins with a new one.

    Raises:
        BundleError: when the bundle belongs to another model, template or kind of tool card.
        DataError: when the data holds no example of the stage.
    """

    def __init__(
        self,
        job: Job,
        base: BaseModel,
        prompt: PromptRenderer,
        train_set: Sequence[Trajectory],
        valid_set: Sequence[Trajectory],
        bundle: str | Path,
        options: TrainOptions,
        team: Group = ALONE,
        kept: ContextCache | None = None,
        hierarchical: bool = False,
        start: Adapter | None = None,
    ) -> None:
        self.kept, self.hierarchical, self.start = kept, hierarchical, start
        self.job, self.base, self.prompt, self.options, self.team = job, base, prompt, options, team
        self.bundle = open_or_new(bundle, base, prompt)
        self.folder = Path(bundle) / "runs" / adapter_path(job.stage, job.scope)
        self.train_set, self.valid_set = train_set, valid_set
        self.train, self.validation, self.notes = self._prepared()
        self.key = self._key()

    @property
    def is_finished(self) -> bool:
        """Whether the leading process's bundle holds the adapter of this very run."""
        slot = self.bundle.stages.get((self.job.stage, self.job.scope))
        return bool(self.team.broadcast_json(slot is not None and slot.training.get("run") == self.key))

    def __call__(
        self, report: Callback = lambda progress: None, resume: bool = False, config: Mapping[str, Any] | None = None
    ) -> Finished:
        """Train, and put the adapter that did best on the validation set into the bundle.

        Args:
            report: is told every step.
            resume: go on from the last checkpoint, where there is one.
            config: what to save as ``config.yaml``; the options, where left out.
        """
        trainer = self.trainer()
        if self.options.memory_budget:
            # The leading process's figures, so that all of them go on or none does.
            planned = MemoryEstimate(**self.team.broadcast_json(asdict(plan(trainer))))
            check_budget(planned, self.options.memory_budget, self.job.title)
        checkpoints = Checkpoints(self.folder / "checkpoints", self.key, self.options.keep)
        state = trainer.shared(checkpoints.latest() if resume and self.team.is_main else None)
        if not self.team.is_main:
            return Finished(self.job, trainer.run(state, report))
        callback = self._started(checkpoints, state, report, config or self.options.to_dict())
        trained = trainer.run(state, callback, checkpoints)
        accuracy = None
        if span_name(self.job.stage) == "selector":
            accuracy = selection_accuracy(
                self.base, self.prompt, self.job.stage, trained.adapter, self.valid_set, self.hierarchical
            )
        self._write(trained, accuracy)
        checkpoints.clear()
        return Finished(self.job, trained, accuracy, self.notes)

    def trainer(self) -> Trainer:
        """What trains this run's adapter, nothing done yet."""
        budget = self.options.keep_contexts * GIB
        kept = self.kept or (ContextCache(budget) if budget else None)
        examples = self.train.examples, self.validation.examples
        return Trainer(self.base, *examples, self.options, self.team, kept, self.start)

    def _started(
        self, checkpoints: Checkpoints, state: TrainState, report: Callback, config: Mapping[str, Any]
    ) -> Callback:
        if state.step == 0:
            checkpoints.clear()
        write_text(self.folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        log = Log(self.folder / "log.jsonl", state.step)

        def both(progress: Progress) -> object:
            log(progress)
            return report(progress)

        return both

    def _write(self, trained: Trained, accuracy: tuple[int, int] | None) -> None:
        facts: dict[str, Any] = {
            **self.options.to_dict(),
            "hierarchical": self.hierarchical,
            "run": self.key,
            "start": self.start.content_hash if self.start else "",
            "examples": len(self.train.examples),
            "best_step": trained.best_step,
            "validation_loss": trained.validation_loss,
            "ended": trained.ended,
        }
        if accuracy:
            facts["validation_right"], facts["validation_asked"] = accuracy
        tools = [tool for trajectory in self.train_set for tool in trajectory.tools]
        grounding = learn_grounding(_written(self.job.stage, self.train_set))
        self.bundle.with_adapter(self.job.stage, self.job.scope, trained.adapter, facts, tools, grounding)
        history = read_log(self.folder / "log.jsonl")
        write_report(self.folder / "report.html", overview(self, trained, accuracy, history))

    def _prepared(self) -> tuple[Prepared, Prepared, tuple[str, ...]]:
        train = self._examples(self.train_set)
        notes = []
        if any(any(decisions_of_stage(trajectory, self.job.stage, self.job.scope)) for trajectory in self.valid_set):
            validation = self._examples(self.valid_set)
        else:
            train, validation = hold_out(train)
            apart = f"{len(validation.examples)} training examples, every {HELD_OUT}th conversation, were held out"
            if train.examples == validation.examples:
                apart = "the only training conversation is measured"
            notes.append(f"the validation data has no example of this: {apart} instead")
        for name, prepared in (("training", train), ("validation", validation)):
            if prepared.cut:
                notes.append(f"{prepared.cut} {name} examples lost their oldest exchanges to fit the window")
            notes += [f"{name} example dropped: {reason}" for reason in prepared.dropped]
        return train, validation, tuple(notes)

    def _examples(self, trajectories: Sequence[Trajectory]) -> Prepared:
        window = min(filter(None, (self.options.window, self.base.context_length)), default=0)
        return stage_examples(
            trajectories,
            self.prompt,
            self.job.stage,
            self.options.activation,
            self.job.scope,
            window,
            self.hierarchical,
        )

    def _key(self) -> str:
        digest = hashlib.sha256(self.base.fingerprint.encode())
        options = {name: value for name, value in self.options.to_dict().items() if name not in NOT_THE_RUN}
        digest.update(json.dumps([self.prompt.template.hash, self.job.stage, self.job.scope, options]).encode())
        for example in (*self.train.examples, *self.validation.examples):
            spans = [(target.start, target.end) for target in example.targets]
            digest.update(repr((example.tokens, example.active, spans)).encode())
        if self.start:
            digest.update(self.start.content_hash.encode())
        return digest.hexdigest()


def _written(stage: str, trajectories: Sequence[Trajectory]) -> Iterator[Decision]:
    """The decisions of a stage that writes arguments, each among the tools that its call is one of."""
    for trajectory in trajectories:
        if stage == "planner":
            yield from (replace(decision, tools=(PLAN,)) for decision in plan_decisions(trajectory))
        elif stage == "arguments":
            yield from call_decisions(trajectory)


def hold_out(prepared: Prepared) -> tuple[Prepared, Prepared]:
    """All but every tenth conversation, and these; a single conversation is both."""
    conversations = sorted({example.conversation for example in prepared.examples})
    apart = set(conversations[::HELD_OUT])
    held = tuple(example for example in prepared.examples if example.conversation in apart)
    kept = tuple(example for example in prepared.examples if example.conversation not in apart)
    return replace(prepared, examples=kept or held), Prepared(held, 0, ())


def open_or_new(folder: str | Path, base: BaseModel, prompt: PromptRenderer) -> Bundle:
    """The bundle in a folder, checked against the model and the prompt, or the start of a new one."""
    there = (Path(folder) / MANIFEST).exists()
    return open_for(folder, base, prompt) if there else _new(folder, base, prompt)


def open_for(folder: str | Path, base: BaseModel, prompt: PromptRenderer) -> Bundle:
    """The bundle in a folder, checked against the model and the prompt.

    Raises:
        BundleError: when it is missing or damaged, or was made with another model, template or kind of tool card.
    """
    opened, wanted = Bundle.open(folder), _new(folder, base, prompt)
    for name in ("fingerprint", "template_hash", "cards"):
        got, expected = getattr(wanted, name), getattr(opened, name)
        if got != expected:
            raise BundleError(
                f"the bundle was made with another {name.replace('_', ' ')}",
                where=folder,
                got=got,
                expected=expected,
                fix="use another bundle folder, or the bundle's own model, template and cards",
            )
    return opened


def _new(folder: str | Path, base: BaseModel, prompt: PromptRenderer) -> Bundle:
    template = prompt.template
    return Bundle(Path(folder), base.name, base.fingerprint, template.name, template.hash, prompt.cards)
