"""Right servers, tools and whole calls among the 56 tools of six real servers, and ten tasks done by the agent.

    python benchmarks/accuracy.py [--quick] [--json FILE]        is: dualtune bench accuracy [--quick] [--json FILE]

It needs the embedded model, the extra ``demo``, git, node and Python's ``venv``. The servers (filesystem, git, time,
memory, sqlite, everything) run in a playground (``playground.py``); their tools are the ones that are chosen among.
Planner, router, selector and argument adapter are trained here on generated requests and chains of calls, which takes
hours on two CPU cores, in two rounds; what is trained stays in the cache and is not trained again. ``--quick`` takes
minutes: too few steps to be good at anything, and three of the ten tasks.

``WAYS`` choose along the hierarchy or among all tools at once (``flat``), each with a selector that learned exactly
that, or with the base model alone. The flat selector learns from the same single requests, without the chains: the test
has single requests only. The argument adapter is the same for both. The test's wordings are never trained on.
``prompt tokens`` are those that a request's stages have to read before they write, all stages together, whether they
are cached or not; ``seconds`` is a request with warm prefixes, without the arguments of a wrong tool.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.playground import new_playground
from dualtune_mlx.benchmarks.tasks import START, TASKS, run_tasks
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import DualTune
from dualtune_mlx.evaluation.calls import METRICS, Report, evaluate_calls
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.models import EMBEDDED, BaseModel, load_model
from dualtune_mlx.paths import cache_folder
from dualtune_mlx.prompts import CARD_KINDS, PromptRenderer, Template, span_name
from dualtune_mlx.synthesis.chains import generate_chains
from dualtune_mlx.synthesis.requests import generate_requests
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training import Job, Progress, Run, RunSetup, TrainOptions
from dualtune_mlx.training.examples import STAGES, decisions_of_stage
from dualtune_mlx.training.routing import views

TEMPLATE, CARD = "chatml", "signature"
SEED = 1
MAX_TOKENS = 160
SHORT = 600
"""Characters of a chain that is trained on."""
ANSWERED = 4
"""Of so many chains in parts one is trained on to its answer: the end of its last part is like those before it."""
EPOCHS = {"planner": 2.4, "router": 0.56, "selector": 0.9, "arguments": 1.05, "flat selector": 0.8}
"""Times over the examples of each stage; the flat selector has fewer."""
EVERY = 10
"""Steps, or requests, between two lines that tell how far it is."""
GOALS = {"server": 0.97, "tool": 0.93, "call": 0.80}


@dataclass(frozen=True)
class Round:
    """Trajectories of one request and of several calls, and the highest learning rate of a run over them."""

    single: int
    chains: int
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Setting:
    """What is trained on, round after round, and what is measured.

    Each round draws new values and goes on from the adapters of the one before. ``valid`` single requests, and a
    quarter as many chains, decide which state of an adapter is the best one. A run goes over the examples as often
    as ``EPOCHS`` say, or takes ``steps``.
    """

    rounds: tuple[Round, ...]
    test: int
    valid: int = 64
    tasks: int = len(TASKS)
    steps: int = 0

    def options(self, name: str, learning_rate: float) -> TrainOptions:
        """How the adapter of a name in ``EPOCHS`` is trained."""
        # A short run wants room and a high rate, as in the demo.
        epochs = 0.0 if self.steps else EPOCHS[name]
        length: dict[str, Any] = {"steps": self.steps, "epochs": epochs, "validate_every": 0}
        return TrainOptions(rank=64, alpha=256.0, learning_rate=learning_rate, seed=SEED, **length)


FULL = Setting((Round(11000, 4300), Round(5600, 3200, 6e-4)), test=172)
QUICK = Setting((Round(120, 40),), test=30, tasks=3, steps=6)


@dataclass(frozen=True)
class Way:
    """How tools are chosen: along their hierarchy or not, with adapters or without."""

    name: str
    hierarchical: bool
    trained: bool

    @property
    def routing(self) -> str:
        return "always" if self.hierarchical else "never"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of a call."""
        return ("router", "selector", "arguments") if self.hierarchical else ("selector", "arguments")


OURS, FLAT = Way("hierarchy", True, True), Way("flat", False, True)
WAYS = (OURS, FLAT, Way("base hierarchy", True, False), Way("base flat", False, False))


@dataclass(frozen=True)
class Data:
    """What each round trains on, what the best adapter is chosen by, and what is measured."""

    tools: tuple[Tool, ...]
    rounds: Sequence[Sequence[Trajectory]] = field(repr=False)
    valid: Sequence[Trajectory] = field(repr=False)
    test: Sequence[Trajectory] = field(repr=False)


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Train what is not trained yet, measure every way, do the tasks, and report.

    Raises:
        ServerError: when a server cannot be installed or started.
    """
    setting = QUICK if quick else FULL
    data = generated(setting, served_tools())
    base = load_model(EMBEDDED)
    folder = cache_folder() / "benchmarks" / f"accuracy-{key(data)}"
    out.print(f"what is trained stays in {folder}", markup=False, soft_wrap=True)
    folder = train(base, data, setting, folder, out)
    measured = {way.name: measure(base, way, data, folder, out) for way in WAYS}
    with opened(base, OURS, folder) as dualtune:
        tasks = run_tasks(dualtune, out, TASKS[: setting.tasks])
    value = as_report(measured, tasks, prompt_tokens(base, data.test), data)
    print_report(value, out)
    return value


def served_tools() -> tuple[Tool, ...]:
    """The tools of six running servers, without what the playground pins."""
    with TemporaryDirectory() as folder:
        configs = read_config(new_playground(Path(folder) / "playground").config)
        with connect(configs, START) as toolbox:
            return toolbox.tools


def generated(setting: Setting, tools: tuple[Tool, ...]) -> Data:
    """Single requests and chains; the test has single requests, all kinds of tools equally often."""
    rounds = [drawn(one, SEED + number, tools) for number, one in enumerate(setting.rounds)]
    valid = [
        *generate_requests("valid", setting.valid, SEED, tools),
        *generate_chains("valid", setting.valid // 4, SEED, tools),
    ]
    return Data(tools, rounds, valid, generate_requests("test", setting.test, SEED, tools))


def drawn(wanted: Round, seed: int, tools: tuple[Tool, ...]) -> list[Trajectory]:
    """What a round trains on."""
    chains = filter(is_short, generate_chains("train", wanted.chains, seed, tools))
    return [*generate_requests("train", wanted.single, seed, tools), *few_answers(chains)]


def is_short(trajectory: Trajectory) -> bool:
    """Whether what is said and called takes few characters: long results take most of the time of training."""
    calls = [call for message in trajectory.messages for call in message.tool_calls]
    texts = [message.content for message in trajectory.messages] + [json.dumps(dict(call.arguments)) for call in calls]
    return sum(map(len, texts)) <= SHORT


def few_answers(chains: Iterable[Trajectory]) -> Iterator[Trajectory]:
    """The chains, most of those in parts without their answer: ends of parts took half of the tokens of training."""
    for number, chain in enumerate(chains):
        in_parts = bool(chain.messages[0].subtasks)
        yield replace(chain, messages=chain.messages[:-1]) if in_parts and number % ANSWERED else chain


def key(data: Data) -> str:
    """Changes when anything changes that is trained on, and not when a field of the data classes is renamed."""
    digest = hashlib.sha256(f"({', '.join(map(tool_key, data.tools))}{',' * (len(data.tools) == 1)})".encode())
    for trajectories in (*data.rounds, data.valid):
        for trajectory in trajectories:
            digest.update(json.dumps(list(map(message_key, trajectory.messages)), default=str).encode())
    return digest.hexdigest()[:12]


def tool_key(tool: Tool) -> str:
    """What ``key`` knows of a tool."""
    return (
        f"Tool(name={tool.name!r}, description={tool.description!r}, parameters={tool.parameters!r}, "
        f"server={tool.server!r}, annotations={tool.annotations!r}, group={tool.group!r})"
    )


def message_key(message: Message) -> dict[str, Any]:
    """What ``key`` knows of a message."""
    return {
        "role": message.role,
        "content": message.content,
        "tool_calls": [call_key(call) for call in message.tool_calls],
        "parts": message.subtasks,
        "part": message.subtask,
    }


def call_key(call: ToolCall) -> dict[str, Any]:
    """What ``key`` knows of a call in the data: no probability, no candidate and no usage belongs to it."""
    return {
        "name": call.name,
        "arguments": dict(call.arguments),
        "server": call.server,
        "confidence": None,
        "candidates": [],
        "usage": None,
    }


def train(base: BaseModel, data: Data, setting: Setting, folder: Path, out: Console) -> Path:
    """Train all rounds, each in a folder of its own; the last one's."""
    folders = [folder / f"round-{number}" for number, _ in enumerate(setting.rounds, start=1)]
    for number, before in enumerate([None, *folders[:-1]]):
        train_round(base, data, setting, number, before, folders[number], out)
    return folders[-1]


def train_round(
    base: BaseModel, data: Data, setting: Setting, number: int, before: Path | None, folder: Path, out: Console
) -> None:
    """All stages, one after the other, from the adapters in ``before``; a copy of the bundle gets the flat selector."""
    prompt = PromptRenderer(Template(TEMPLATE), base.tokenizer, CARD)
    examples, rate = data.rounds[number], setting.rounds[number].learning_rate

    def learn(way: Way, stage: str, examples: Sequence[Trajectory], held_out: Sequence[Trajectory]) -> None:
        options = setting.options(stage if way.hierarchical else f"{way.name} {stage}", rate)
        start = adapter(before / way.name, stage) if before else None
        setup = RunSetup(base, prompt, examples, held_out, folder / way.name, hierarchical=way.hierarchical)
        run = Run(Job(stage), options, setup, start=start)
        if not run.is_finished:
            run.train(partial(trained, out, f"{folder.name}, {way.name}, {stage}"), resume=True)

    for stage in STAGES:
        learn(OURS, stage, for_planner(examples) if stage == "planner" else examples, data.valid)
    if not (folder / FLAT.name).exists():
        shutil.copytree(folder / OURS.name, folder / FLAT.name, ignore=shutil.ignore_patterns("runs"))
    learn(FLAT, "selector", single(examples), single(data.valid))


def adapter(bundle: Path, stage: str) -> Adapter:
    """The adapter of a stage in a bundle."""
    opened = Bundle.open(bundle)
    return opened.load_adapter(stage, "", opened.stages[stage, ""])


def for_planner(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """What a planner learns from: all chains, and a quarter as many single requests, so that most are to be divided."""
    chains = [one for one in trajectories if len(one.messages) > 2]
    return [*single(trajectories)[: len(chains) // 4], *chains]


def single(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The requests that are answered with one call, without its result, or in words."""
    return [one for one in trajectories if len(one.messages) == 2]


def trained(out: Console, title: str, state: Progress) -> None:
    """What a step gave, now and then."""
    told(out, f"{title}, loss {state.loss:.3f}, {state.tokens_per_second:.0f} tokens/s", state.step, state.steps)


@contextmanager
def opened(base: BaseModel, way: Way, folder: Path) -> Iterator[DualTune]:
    """The engine that goes a way."""
    decoding = Decoding(MAX_TOKENS, grounding="data")
    if way.trained:
        with DualTune.load(folder / way.name, base, decoding=decoding, routing=way.routing) as dualtune:
            yield dualtune
    else:
        with DualTune.without_adapters(base, TEMPLATE, CARD, way.routing) as dualtune:
            yield dualtune


@dataclass(frozen=True)
class Measured:
    """A way's answers, and the seconds of each call."""

    report: Report
    seconds: tuple[float, ...]


def measure(base: BaseModel, way: Way, data: Data, folder: Path, out: Console) -> Measured:
    """Ask for every call of the test data; the arguments of a wrong tool are not written."""
    marks = []

    def mark(done: int, total: int) -> None:
        marks.append(time.perf_counter())
        told(out, way.name, done, total)

    with opened(base, way, folder) as dualtune:
        dualtune.select(data.test[0].messages[:1], data.tools)  # the first call computes prefixes
        marks.append(time.perf_counter())
        report = evaluate_calls(dualtune, data.test, MAX_TOKENS, mark)
    return Measured(report, tuple(after - before for before, after in pairwise(marks)))


def prompt_tokens(base: BaseModel, test: Sequence[Trajectory]) -> dict[str, dict[str, float]]:
    """Tokens that the stages of a call read, by kind of tool card: mean over all requests, for both ways."""
    found = {}
    for cards in CARD_KINDS:
        prompt = PromptRenderer(Template(TEMPLATE), base.tokenizer, cards)
        found[cards] = {way.name: mean(read(prompt, one, way) for one in test) for way in (OURS, FLAT)}
    return found


def read(prompt: PromptRenderer, trajectory: Trajectory, way: Way) -> int:
    """Tokens before what the stages of a request's call write."""
    total = 0
    for stage in way.stages:
        for _, decision in decisions_of_stage(trajectory, stage):
            for view in views(decision, stage, way.hierarchical):
                stream = prompt.render(
                    decision.messages, decision.tools, view.decision.call, view.shown, view.decision.subtask
                )
                total += stream.last_span(span_name(stage)).start
    return total


def as_report(
    measured: Mapping[str, Measured],
    tasks: Sequence[Mapping[str, Any]],
    tokens: Mapping[str, Mapping[str, float]],
    data: Data,
) -> dict[str, Any]:
    """The benchmark's value: a row for each way, one with its wrong calls, and one for each task."""
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
        right, flat_right = (way.report.accuracy(metric) for way in (ours, flat))
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
    """A table of the ways, the goals, and the tasks."""
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
    common.print_table(out, f"{rows[0]['n']} requests", ["", *METRICS, "prompt tokens", "seconds"], lines)
    for metric, goal in GOALS.items():
        word = "reached" if rows[0][metric] >= goal else "NOT reached"
        out.print(f"goal {metric} at least {goal:.0%}: {word}", markup=False)
    counters = value["counters"]
    for cards, of in counters["prompt_tokens"].items():
        part = of[OURS.name] / of[FLAT.name]
        out.print(f"prompt tokens with {cards} cards: {part:.2f} of flat", markup=False)
    out.print(
        f"tasks reached: {counters['tasks_reached']} of {counters['tasks']}; "
        f"with a change outside: {counters['outside_changed']}",
        markup=False,
    )


def told(out: Console, title: str, done: int, total: int) -> None:
    """A line now and then."""
    if done % EVERY == 0 or done == total:
        out.print(f"{title}: {done} of {total}", markup=False)


if __name__ == "__main__":
    common.main(__file__)
