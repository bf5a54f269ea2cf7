"""The road from tools to a measured bundle: requests are made, checked and divided; adapters are trained and measured.

learn(tools, "mine", LearnOptions(minutes=15), report=print)

BUNDLE/learn.json           what was decided and measured
BUNDLE/train.yaml           the configuration of training
BUNDLE/data/tools.json      the tools
BUNDLE/data/requests.jsonl  the requests that were made; whoever mends them trains on what is mended
BUNDLE/data/split/          the same, with those that were given (more.jsonl), divided into train.jsonl, which the words
                            are learned from, and valid.jsonl
BUNDLE/data/train.jsonl     and valid.jsonl: those of either that training has time for
BUNDLE/data/test.jsonl      the user's own requests, where there are some
BUNDLE/before/              the bundle as it was before its tools changed
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import yaml

from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.bundle.parts import find_part
from dualtune_mlx.data import read_trajectories, write_tools
from dualtune_mlx.data.splitting import split_data
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.engine.trained_tools import ToolsWarning
from dualtune_mlx.errors import CheckpointError, count_of
from dualtune_mlx.evaluation import evaluate_calls
from dualtune_mlx.files import atomic_folder, parse_json, read_text, require_no_links, write_text
from dualtune_mlx.learning.events import (
    CommandStarted,
    DecisionEvaluated,
    LearnCallback,
    Measured,
    PlanMade,
    StepsChosen,
    TrainingRestarted,
)
from dualtune_mlx.learning.focus import focus, leave_out_long, sample
from dualtune_mlx.learning.more import read_more
from dualtune_mlx.learning.options import (
    ARGUMENT_CARD,
    LONG_MINUTES,
    MOST_HELD_OUT,
    TEMPLATE,
    TRAINING_SHARES,
    VALIDATED,
    VALIDATIONS,
    LearnOptions,
    choose_cards,
    train_config,
)
from dualtune_mlx.learning.plan import LearnPlan
from dualtune_mlx.learning.report import LearnReport, write_report
from dualtune_mlx.learning.state import LearnState, fingerprint_tools
from dualtune_mlx.models import load_model
from dualtune_mlx.start import start_bundle
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.synthesize import REQUESTS, SUMMARY, synthesize
from dualtune_mlx.synthesis.teacher import Teaching
from dualtune_mlx.tools import Tool, Trajectory
from dualtune_mlx.tools.changes import ToolChanges, compare_tools, find_reworded
from dualtune_mlx.training import Job, TrainConfig, TrainingSession, measure_paces
from dualtune_mlx.training.words import fit_bundle_words

MOST_TOKENS = 256
"""The longest arguments when measuring, in tokens."""
PROBED = 100
"""Steps of the run whose speed is measured."""
LEAST_STEPS = 10
"""Steps of a run at least, however little time there is."""
MEASUREMENTS = VALIDATIONS + 1
"""How often a run measures: the choices that are asked for at the end of a selector's run take about as long."""
LEAST_SHARE = 0.2
"""The least part of the time that a later round trains."""


def learn(
    tools: Sequence[Tool],
    bundle: str | Path,
    options: LearnOptions | None = None,
    *,
    teaching: Teaching | None = None,
    values: Mapping[str, Sequence[Any]] | None = None,
    more: Sequence[str | Path] = (),
    report: LearnCallback = lambda _: None,
) -> dict[str, Any]:
    """Make data for tools, train adapters on it, and measure them.

    What is there already is not made again, so a road that was stopped goes on where it was. Where the bundle was made
    for other tools, only those that are new or changed are learned, on top of what it knows.

    Args:
        tools: the tools that the bundle is for.
        bundle: the bundle's folder; made when missing.
        options: the model, and how much time there is.
        teaching: the teacher that words requests; our own generator without one.
        values: values that servers really hold, by ``server/tool/path`` or by a parameter's name.
        more: JSONL files of requests with their calls, which are learned beside those that are made.
        report: called with every event; can stop the road.

    Returns:
        ``before`` (the bundle that training goes on from, or the base model where there is none) and ``after``
        (reports of ``evaluate_calls``), ``measured_on`` (``own`` or ``held out``), and ``bundle``.

    Raises:
        UsageError, DataError, ToolError: when a file of ``more`` cannot be learned (``read_more``).
    """
    decided = (options or LearnOptions()).for_tools(len(tools))
    files = [Path(path) for path in more]
    return _Road(tuple(tools), Path(bundle), decided, teaching, values or {}, files, report).run()


class _Road:
    def __init__(
        self,
        tools: tuple[Tool, ...],
        bundle: Path,
        options: LearnOptions,
        teaching: Teaching | None,
        values: Mapping[str, Sequence[Any]],
        files: Sequence[Path],
        report: LearnCallback,
    ) -> None:
        self.tools, self.bundle, self.options = tools, bundle, options
        self.teaching, self.values, self.files, self.report = teaching, values, files, report
        self.given: Sequence[str] = ()
        self.data, self.before = bundle / "data", bundle / "before"
        self.split = self.data / "split"
        for folder in (self.split, self.before):
            require_no_links(bundle, folder)
        self.state = LearnState.open(bundle)
        self.began, self.measuring = perf_counter(), 0.0

    def run(self) -> dict[str, Any]:
        for folder in (self.data, self.split):
            write_tools(folder, self.tools)
        own = self._own_requests()
        self.given = read_more(self.files, self.tools, own)
        changes = self._begin_round()
        self._obey_options()
        self.report(PlanMade(self._plan(changes, len(own))))
        self._make_data()
        if not self.state.cards:
            self._update(cards=choose_cards(self.tools, load_model(self.options.model)))
        test = own or self._held_out()
        before = self._measure("before", test)
        self._train()
        self._learn_words()
        after = self._measure("after", test)
        measured_on = "own" if own else "held out"
        write_report(self.bundle / "report.html", self._describe(before, after, measured_on))
        return {"before": before, "after": after, "measured_on": measured_on, "bundle": str(self.bundle)}

    def _plan(self, changes: ToolChanges | None, own: int) -> LearnPlan:
        by = f"{self.teaching.backend.name}, {self.teaching.limits.describe()}" if self.teaching else ""
        return LearnPlan(self.tools, self.options, changes, str(self.start or ""), own, len(self.given), by)

    def _update(self, **changes: Any) -> None:
        self.state = self.state.write(self.bundle, **changes)

    @property
    def start(self) -> Path | None:
        """The bundle whose adapters training goes on from."""
        return self.before if self.state.round > 1 else start_bundle(self.options.model)

    def _begin_round(self) -> ToolChanges | None:
        """Go on with the round of these tools, or begin one; how the tools differ from those of the round before."""
        known = fingerprint_tools(self.tools)
        if self.state.tools == known:
            return None
        unfinished = self.state.round > 0 and "after" not in self.state.measured
        if unfinished or not (self.bundle / MANIFEST).exists():
            self.state = LearnState(max(self.state.round, 1), known).write(self.bundle)
            return None
        trained = Bundle.open(self.bundle)
        changes = compare_tools(trained.tools, self.tools)
        with atomic_folder(self.before, replace=True) as folder:
            _copy_bundle(trained, folder)
        replace(trained, tools=self.tools).write()
        changed = (*changes.untrained, *changes.changed, *find_reworded(trained.tools, self.tools))
        names = [tool.full_name for tool in changed]
        self.state = LearnState(max(self.state.round, 1) + 1, known, names, cards=trained.cards).write(self.bundle)
        return changes

    def _obey_options(self) -> None:
        """Decide anew what was decided with other options."""
        wanted = {**self.options.of_data, **self.options.of_training}
        differs = {name for name, value in wanted.items() if self.state.options.get(name) != value}
        made = self.state.made and not differs & set(self.options.of_data)
        self._update(options=wanted, made=made, steps={} if differs else self.state.steps)

    def _own_requests(self) -> list[Trajectory]:
        path = self.data / "test.jsonl"
        return read_trajectories(path) if path.exists() else []

    def _make_data(self) -> None:
        requests, seed = self.data / REQUESTS, self.options.seed
        if not self.state.made:
            self._say("data", "synthesize", "--data", self.data, "--requests", self.options.requests, "--seed", seed)
            wanted = SynthesisOptions(self.options.requests, seed=seed)
            synthesize(self.tools, self.data, wanted, self.teaching, values=self.values, report=self.report)
            self._update(made=True)
        self._divide(requests)
        self._draw("train", self.options.most_trained)
        self._draw("valid", VALIDATED)

    def _divide(self, requests: Path) -> None:
        """Divide what was made and what was given by wording; what training may not see is held out."""
        sources, seed = [requests], self.options.seed
        if self.given:
            sources.append(self.split / "more.jsonl")
            _write_lines(sources[-1], self.given)
        share = self.options.held_out / max(1, sum(len(_read_lines(path)) for path in sources))
        valid = min(MOST_HELD_OUT, share)
        self._say(
            *("data", "split", *sources, "--data", self.split, "--valid", f"{valid:g}", "--test", 0),
            *("--seed", seed, "--replace"),
        )
        split_data(sources, self.split, valid=valid, test=0.0, seed=seed, replace=True)

    def _draw(self, split: str, most: int) -> None:
        """Keep the requests of a split that training has time for; in a later round, those of what changed."""
        lines = _read_lines(self.split / f"{split}.jsonl")
        if self.state.changed:
            lines = focus(lines, set(self.state.changed), self.options.seed) or lines
        if self.options.minutes < LONG_MINUTES:
            lines = leave_out_long(lines)
        _write_lines(self.data / f"{split}.jsonl", sample(lines, most, self.options.seed, set(self.given)))

    def _config(self, steps: Mapping[str, int]) -> TrainConfig:
        place = {"model": self.options.model, "data": str(self.data), "bundle": str(self.bundle)}
        return train_config(steps, self.start, **place, cards=self.state.cards, seed=self.options.seed)

    def _train(self) -> None:
        jobs = self._jobs()
        if not jobs:
            return
        if not self.state.steps:
            self._update(steps=self._choose_steps(jobs))
            self.report(StepsChosen(self.state.steps))
        config, file = self._config(self.state.steps), self.bundle / "train.yaml"
        write_text(file, yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))
        session = TrainingSession(config)
        for job in jobs:
            scope = ("--scope", job.scope) if job.scope else ()
            self._say("train", job.stage, *scope, "--config", file, "--resume")
            try:
                session.train_one(job, self.report, skip=True, resume=True)
            except CheckpointError as error:
                self.report(TrainingRestarted(job, str(error)))
                session.train_one(job, self.report)

    def _learn_words(self) -> None:
        """Fit the word classifier to all requests that are not held out, unless it is fitted to them already."""
        path = self.split / "train.jsonl"
        fitted_to = hashlib.sha256(path.read_bytes()).hexdigest()
        if self.state.words != fitted_to:
            self._say("bundle", "words", "--bundle", self.bundle, "--data", path)
            fit_bundle_words(Bundle.open(self.bundle), load_model(self.options.model), read_trajectories(path))
            self._update(words=fitted_to)

    def _jobs(self) -> list[Job]:
        """A selector, and an adapter for all arguments; in a later round one for each tool that changed.

        A tool without a server has no adapter of its own; the one for all arguments goes on instead.
        """
        if self.state.round == 1:
            return [Job("selector"), Job("arguments")]
        if not self.state.changed:
            return []
        changed = [tool for tool in self.tools if tool.full_name in self.state.changed and tool.takes_arguments]
        scopes = dict.fromkeys(tool.full_name if tool.server else "" for tool in changed)
        return [Job("selector"), *(Job("arguments", scope) for scope in scopes)]

    def _choose_steps(self, jobs: Sequence[Job]) -> dict[str, int]:
        """The steps of each stage that fit into the time that is left, with what is still to be measured taken off.

        In a later round they are as many fewer as there are fewer tools to learn.
        """
        paces = measure_paces(self._config(dict.fromkeys(TRAINING_SHARES, PROBED)))
        left = 60 * self.options.minutes - (perf_counter() - self.began) - self.measuring
        share = len(self.state.changed) / len(self.tools) if self.state.round > 1 else 1.0
        adapters = Counter(job.stage for job in jobs)
        steps = {}
        for stage, pace in paces.items():
            seconds = left * max(LEAST_SHARE, share) * TRAINING_SHARES[stage] / max(adapters[stage], 1)
            steps[stage] = max(LEAST_STEPS, int((seconds - MEASUREMENTS * pace.validation) / pace.step))
        return steps

    def _held_out(self) -> list[Trajectory]:
        """Requests that are held out, each with its call or answer alone."""
        made = [one for one in read_trajectories(self.split / "valid.jsonl") if len(one.messages) == 2]
        return random.Random(self.options.seed).sample(made, min(self.options.most_measured, len(made)))

    def _measure(self, name: str, test: Sequence[Trajectory]) -> Mapping[str, Any]:
        """The report of a measurement, which is made where these requests or adapters were not measured yet."""
        bundle = self.bundle if name == "after" else self.start
        key = _measured_key(test, bundle)
        found = self.state.measured.get(name, {})
        if found.get("key") != key:
            began = perf_counter()
            with self._load(bundle) as dualtune, warnings.catch_warnings():
                warnings.simplefilter("ignore", ToolsWarning)  # the plan has told what changed
                value = evaluate_calls(
                    dualtune, test, MOST_TOKENS, lambda done, total: self.report(DecisionEvaluated(done, total))
                ).to_dict()
            self.measuring = perf_counter() - began
            found = {"key": key, "report": value}
            self._update(measured={**self.state.measured, name: found})
            self.report(Measured(name, value))
        report: Mapping[str, Any] = found["report"]
        return report

    def _load(self, bundle: Path | None) -> DualTune:
        if bundle is None:
            cards = self.state.cards
            return DualTune.without_adapters(self.options.model, TEMPLATE, cards, argument_card=ARGUMENT_CARD)
        return DualTune.load(bundle, self.options.model, decoding=Decoding(grounding="data"))

    def _describe(self, before: Mapping[str, Any], after: Mapping[str, Any], measured_on: str) -> LearnReport:
        servers = sorted({tool.server for tool in self.tools if tool.server})
        made = parse_json(read_text(self.data / SUMMARY), "the summary is not JSON", self.data / SUMMARY)
        runs = sorted(path.relative_to(self.bundle) for path in (self.bundle / "runs").rglob("report.html"))
        return LearnReport(
            title=", ".join(servers) or count_of(len(self.tools), "tool"),
            model=self.options.model,
            facts={
                "tools": f"{len(self.tools):,}",
                "requests made": f"{made['kept']:,}",
                **({"requests given": f"{len(self.given):,}"} if self.given else {}),
                "minutes": f"{self.options.minutes:g}",
                "steps": ", ".join(f"{stage} {count:,}" for stage, count in self.state.steps.items()),
                "round": str(self.state.round),
            },
            before=before,
            after=after,
            measured_on=measured_on,
            rejected=made["rejected"],
            runs=[path.as_posix() for path in runs],
        )

    def _say(self, *arguments: object) -> None:
        self.report(CommandStarted(tuple(map(str, arguments))))


def _copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Copy a bundle's manifest, templates and adapters; its runs, prefixes and data stay."""
    for name, content_hash in bundle.parts.items():
        part = find_part(bundle.folder, name, content_hash)
        shutil.copytree(part, folder / name) if part.is_dir() else shutil.copy(part, folder / name)
    for path in (*bundle.folder.glob("*.jinja"), bundle.folder / MANIFEST):
        shutil.copy(path, folder)


def _measured_key(test: Sequence[Trajectory], bundle: Path | None) -> str:
    """A hash of the requests, adapters and words that are measured."""
    opened = Bundle.open(bundle) if bundle else None
    adapters = [entry.content_hash for entry in opened.stages.values()] if opened else []
    words = opened.words.content_hash if opened and opened.words else ""
    measured = [adapters, words, [trajectory.to_dict() for trajectory in test]]
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()


def _read_lines(path: Path) -> list[str]:
    """The lines of a data file; a text in it may have other characters that end a line."""
    return [line for line in read_text(path).split("\n") if line.strip()]


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
