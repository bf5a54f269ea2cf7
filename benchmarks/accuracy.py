"""Right servers, tools and whole calls among the 56 tools of six real servers, and ten tasks done by the agent.

    python benchmarks/accuracy.py [--quick] [--json FILE]        is: dualtune bench accuracy [--quick] [--json FILE]

It needs the embedded model, the extra ``demo``, git, node and Python's ``venv``. The servers (filesystem, git, time,
memory, sqlite, everything) run in a playground (``playground.py``); their tools are the ones that are chosen among.
Planner, router, selector and argument adapter are trained here on generated requests and chains of calls, which takes
hours on two CPU cores, in two rounds; what is trained stays in the cache and is not trained again. ``--quick`` takes
minutes: too few steps to be good at anything, and three of the ten tasks.

``METHODS`` choose along the hierarchy or among all tools at once (``flat``), each with a selector that learned exactly
that, or with the base model alone. The flat selector learns from the same single requests, without the chains, because
the test has single requests only. The argument adapter is the same for both. The test's wordings are never trained on.
``prompt tokens`` are those that all stages of a request read before they write, cached or not. ``seconds`` is the time
of a request with warm prefixes, without the arguments of a wrong tool.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.accuracy_data import (
    FULL,
    QUICK,
    Data,
    Setting,
    generate_data,
    key,
    planner_examples,
    single_requests,
)
from dualtune_mlx.benchmarks.playground import new_playground
from dualtune_mlx.benchmarks.tasks import START_SECONDS, TASKS, run_tasks
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import count_of
from dualtune_mlx.evaluation import Report, evaluate_calls
from dualtune_mlx.evaluation.calls import METRICS
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.models import EMBEDDED, BaseModel, load_model
from dualtune_mlx.paths import cache_folder
from dualtune_mlx.prompts import CARD_KINDS, PromptRenderer, Template, span_name
from dualtune_mlx.tools import Tool, Trajectory
from dualtune_mlx.training import STAGES, Job, Progress, RunSetup, TrainingRun
from dualtune_mlx.training.examples import decisions_of_stage
from dualtune_mlx.training.routing import shown_decisions

TEMPLATE, CARD = "chatml", "signature"
MAX_TOKENS = 160
PRINT_EVERY = 10
"""Steps, or requests, between two lines of progress."""
GOALS = {"server": 0.97, "tool": 0.93, "call": 0.80}


@dataclass(frozen=True)
class Method:
    """A method to choose tools."""

    name: str
    hierarchical: bool
    """Along the hierarchy of servers and tools; otherwise among all tools at once."""
    trained: bool
    """With adapters; otherwise with the base model alone."""

    @property
    def routing(self) -> str:
        """The engine's option."""
        return "always" if self.hierarchical else "never"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of a call."""
        return ("router", "selector", "arguments") if self.hierarchical else ("selector", "arguments")


OURS, FLAT = Method("hierarchy", True, True), Method("flat", False, True)
METHODS = (OURS, FLAT, Method("base hierarchy", True, False), Method("base flat", False, False))


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Train what is not trained yet, measure every method, do the tasks, and return the value of ``--json``.

    Raises:
        ServerError: when a server cannot be installed or started.
    """
    setting = QUICK if quick else FULL
    data = generate_data(setting, served_tools())
    base = load_model(EMBEDDED)
    folder = cache_folder() / "benchmarks" / f"accuracy-{key(data)}"
    out.print(f"what is trained stays in {folder}", markup=False, soft_wrap=True)
    folder = train(base, data, setting, folder, out)
    measured = {method.name: measure(base, method, data, folder, out) for method in METHODS}
    with open_engine(base, OURS, folder) as dualtune:
        tasks = run_tasks(dualtune, out, TASKS[: setting.tasks])
    value = make_report(measured, tasks, prompt_tokens(base, data.test), data)
    print_report(value, out)
    return value


def served_tools() -> tuple[Tool, ...]:
    """The tools of six running servers, without the arguments that the playground pins."""
    with TemporaryDirectory() as folder:
        configs = read_config(new_playground(Path(folder) / "playground").config)
        with connect(configs, START_SECONDS) as toolbox:
            return toolbox.tools


def train(base: BaseModel, data: Data, setting: Setting, folder: Path, out: Console) -> Path:
    """Train all rounds, each in a folder of its own, and return the last one's folder."""
    folders = [folder / f"round-{number}" for number, _ in enumerate(setting.rounds, start=1)]
    for number, before in enumerate([None, *folders[:-1]]):
        train_round(base, data, setting=setting, number=number, before=before, folder=folders[number], out=out)
    return folders[-1]


def train_round(
    base: BaseModel, data: Data, *, setting: Setting, number: int, before: Path | None, folder: Path, out: Console
) -> None:
    """Train all stages of a round, then the flat selector in a copy of the bundle.

    ``before`` is the folder of the round before; its adapters are where training starts.
    """
    renderer = PromptRenderer(Template(TEMPLATE), base.tokenizer, CARD)
    examples, rate = data.rounds[number], setting.rounds[number].learning_rate

    def learn(method: Method, stage: str, examples: Sequence[Trajectory], held_out: Sequence[Trajectory]) -> None:
        options = setting.options(stage if method.hierarchical else f"{method.name} {stage}", rate)
        start = load_adapter(before / method.name, stage) if before else None
        setup = RunSetup(base, renderer, examples, held_out, folder / method.name, hierarchical=method.hierarchical)
        run = TrainingRun(Job(stage), options, setup, start=start)
        if not run.is_finished:
            run.train(partial(print_step, out, f"{folder.name}, {method.name}, {stage}"), resume=True)

    for stage in STAGES:
        learn(OURS, stage, planner_examples(examples) if stage == "planner" else examples, data.valid)
    if not (folder / FLAT.name).exists():
        shutil.copytree(folder / OURS.name, folder / FLAT.name, ignore=shutil.ignore_patterns("runs"))
    learn(FLAT, "selector", single_requests(examples), single_requests(data.valid))


def load_adapter(bundle: Path, stage: str) -> Adapter:
    """The adapter of a stage in a bundle."""
    return Bundle.open(bundle).load_adapter(stage)


def print_step(out: Console, title: str, state: Progress) -> None:
    """Print the loss and speed of a step, now and then."""
    print_sometimes(
        out, f"{title}, loss {state.loss:.3f}, {state.tokens_per_second:.0f} tokens/s", state.step, state.steps
    )


@contextmanager
def open_engine(base: BaseModel, method: Method, folder: Path) -> Iterator[DualTune]:
    """The engine of a method, with the adapters in ``folder``."""
    decoding = Decoding(MAX_TOKENS, grounding="data")
    if method.trained:
        with DualTune.load(folder / method.name, base, decoding=decoding, routing=method.routing) as dualtune:
            yield dualtune
    else:
        with DualTune.without_adapters(base, TEMPLATE, CARD, method.routing) as dualtune:
            yield dualtune


@dataclass(frozen=True)
class MethodResult:
    """A method's answers, and the seconds of each call."""

    report: Report
    seconds: tuple[float, ...]


def measure(base: BaseModel, method: Method, data: Data, folder: Path, out: Console) -> MethodResult:
    """Ask a method for every call of the test data; the arguments of a wrong tool are not written."""
    times = []

    def note_time(done: int, total: int) -> None:
        times.append(time.perf_counter())
        print_sometimes(out, method.name, done, total)

    with open_engine(base, method, folder) as dualtune:
        dualtune.select(data.test[0].messages[:1], data.tools)  # the first call computes prefixes
        times.append(time.perf_counter())
        report = evaluate_calls(dualtune, data.test, MAX_TOKENS, note_time)
    return MethodResult(report, tuple(after - before for before, after in pairwise(times)))


def prompt_tokens(base: BaseModel, test: Sequence[Trajectory]) -> dict[str, dict[str, float]]:
    """Tokens that the stages of a call read, as a mean over all requests: by kind of tool card and by method."""
    found = {}
    for cards in CARD_KINDS:
        renderer = PromptRenderer(Template(TEMPLATE), base.tokenizer, cards)
        found[cards] = {
            method.name: mean(count_prompt_tokens(renderer, one, method) for one in test) for method in (OURS, FLAT)
        }
    return found


def count_prompt_tokens(renderer: PromptRenderer, trajectory: Trajectory, method: Method) -> int:
    """Tokens that the stages of a request's call read before they write."""
    total = 0
    for stage in method.stages:
        for _, decision in decisions_of_stage(trajectory, stage):
            for view in shown_decisions(decision, stage, method.hierarchical):
                stream = renderer.render(
                    decision.messages, decision.tools, view.decision.call, view.shown, view.decision.subtask
                )
                total += stream.last_span(span_name(stage)).start
    return total


def make_report(
    measured: Mapping[str, MethodResult],
    tasks: Sequence[Mapping[str, Any]],
    tokens: Mapping[str, Mapping[str, float]],
    data: Data,
) -> dict[str, Any]:
    """The benchmark's value: a row for each method, ours with its wrong calls, and a row for each task."""
    rows: list[dict[str, Any]] = []
    for name, found in measured.items():
        value = found.report.to_dict()
        examples = zip(value.pop("examples"), found.report.calls, strict=True)
        if name == OURS.name:
            value["wrong"] = [shown for shown, one in examples if not one.is_right("call")]
        counted = OURS.name if "hierarchy" in name else FLAT.name
        rows.append(
            {"way": name, **value, "prompt_tokens": tokens[CARD][counted], "seconds": common.spread(found.seconds)}
        )
    ours, flat = measured[OURS.name], measured[FLAT.name]
    ratios = {
        f"prompt_tokens_{cards}_vs_flat": common.ratio([of[OURS.name]], [of[FLAT.name]]) for cards, of in tokens.items()
    }
    for metric in METRICS:
        right, flat_right = (method.report.accuracy(metric) for method in (ours, flat))
        if flat_right:
            ratios[f"{metric}_vs_flat"] = common.ratio([right], [flat_right])
    ratios["seconds_vs_flat"] = common.ratio(ours.seconds, flat.seconds)
    counters = {
        "tools": len(data.tools),
        "train": [len(one) for one in data.rounds],
        "test": len(data.test),
        "prompt_tokens": tokens,
        "tasks_reached": sum(row["reached"] for row in tasks),
        "tasks": len(tasks),
        "outside_changed": sum(not row["outside_unchanged"] for row in tasks),
    }
    return common.report("accuracy", [*rows, *tasks], ratios, counters)


def print_report(value: Mapping[str, Any], out: Console) -> None:
    """Print a table of the methods, the goals, and the tasks."""
    rows = [row for row in value["rows"] if "way" in row]
    lines = [
        [
            row["way"],
            *(f"{row[m]:.1%}" for m in METRICS),
            f"{row['prompt_tokens']:.0f}",
            f"{row['seconds']['median']:.2f}",
        ]
        for row in rows
    ]
    common.print_table(out, count_of(rows[0]["n"], "request"), ["", *METRICS, "prompt tokens", "seconds"], lines)
    for metric, goal in GOALS.items():
        word = "reached" if rows[0][metric] >= goal else "NOT reached"
        out.print(f"goal {metric} at least {goal:.0%}: {word}", markup=False)
    counters = value["counters"]
    common.print_ratios(out, value["ratios"])
    out.print(
        f"tasks reached: {counters['tasks_reached']} of {counters['tasks']}; "
        f"with a change outside: {counters['outside_changed']}",
        markup=False,
    )


def print_sometimes(out: Console, title: str, done: int, total: int) -> None:
    """Print a line for every ``PRINT_EVERY``-th step or request, and for the last one."""
    if done % PRINT_EVERY == 0 or done == total:
        out.print(f"{title}: {done} of {total}", markup=False)


if __name__ == "__main__":
    common.main(__file__)
