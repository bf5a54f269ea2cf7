"""Training speed, memory and what is learned, beside mlx-lm's own LoRA trainer.

    python benchmarks/training.py [--quick] [--json FILE]        is: dualtune bench training [--quick] [--json FILE]

``--quick`` measures speed and memory, in eight minutes on two CPU cores, of which mlx-lm's one step at 3,600 tokens
takes two and that of ``all`` nearly as much; without it also what is learned, in an hour and more. Both need the
embedded model and the extra ``demo``: the tools in the prompt are those that its real servers list.

The selector of the embedded 135M model is trained by ``mlx-lm`` (``mlx_lm.tuner.train`` with its own loss and batches;
the prompt is masked, as with ``--mask-prompt``) and by our trainer with each activation. All take the same examples
in the same order and batches, from the same weights, with the same optimiser (``engines.py``); each runs in a
process of its own, warmed up. The loss of the first step is the base model's, because an adapter changes nothing at
first, and has to be the same for all four: that is checked.

A step's seconds are each trainer's own: ours with, mlx-lm's without the making of the batch. Our prefix is computed
once, before the first step: ``prefix_seconds``, and ``…_with_prefix`` counts it into the time of 1,000 examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from dualtune_mlx.benchmarks import common
from dualtune_mlx.benchmarks.common import GIB, Goal, ratio, spread
from dualtune_mlx.benchmarks.engines import (
    OURS,
    PEER,
    SEED,
    HeldOutResult,
    TimedRun,
    Workload,
    measure_held_out,
    save_first_weights,
    train_ours,
    train_peer,
)
from dualtune_mlx.benchmarks.processes import run_isolated
from dualtune_mlx.demo import Workspace
from dualtune_mlx.errors import TrainingError
from dualtune_mlx.evaluation.calls import wilson_interval
from dualtune_mlx.mcp import connect, read_config
from dualtune_mlx.models import EMBEDDED, load_tokenizer
from dualtune_mlx.synthesis import generate_requests
from dualtune_mlx.tools import Tool, Trajectory

SLOW = (PEER, "all")
"""The engines that process the prefix in each step."""
GENERATED = 3000
LAST = 5
"""The training loss is the mean over this many of the last steps."""
RUN = 1000
"""The number of examples over which the time of the prefix is spread."""
GOALS = {
    "examples_per_second_vs_mlx_lm@3600": Goal(100.0, at_least=True),
    "peak_memory_vs_mlx_lm@3600": Goal(0.1),
}


@dataclass(frozen=True)
class Setting:
    """What is measured at one prefix length.

    The first ``steps`` steps of every engine take the equal examples.
    """

    prefix: int
    """Tokens before the user's message, about."""
    cards: str
    """How tools are written."""
    batch_size: int
    """Examples per step."""
    steps: int
    """Steps of mlx-lm and ``all``."""
    more: int
    """Steps of the others; ``steps`` where there are held-out requests."""
    requests: int = 64
    """Training requests that the examples are drawn from."""
    held_out: int = 0
    """Requests that measure what was learned, if any."""

    def steps_of(self, engine: str) -> int:
        return self.steps if engine in SLOW else self.more


# The longest first: where memory does not suffice, that shows at once.
QUICK = (
    Setting(3600, "schema", batch_size=1, steps=1, more=5),
    Setting(1000, "schema", batch_size=1, steps=2, more=5),
    Setting(345, "signature", batch_size=1, steps=3, more=5),
)
FULL = (
    Setting(3600, "schema", batch_size=1, steps=2, more=20),
    Setting(1000, "schema", batch_size=2, steps=5, more=20),
    Setting(345, "signature", batch_size=4, steps=30, more=30, requests=1200, held_out=200),
)


def run(quick: bool, out: Console) -> dict[str, Any]:
    """Measure, print the tables, and give the value that ``--json`` writes."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, dict[str, float]] = {}
    counters: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for setting, work in make_workloads(QUICK if quick else FULL, folder).items():
            facts = count_tokens(setting, work)
            runs = measure(setting, work, folder, out)
            check_first_losses(runs)
            learned = measure_knowledge(runs, work, folder, out) if setting.held_out else {}
            rows += [make_row(setting, facts, one, learned.get(one.engine, {})) for one in runs]
            ratios.update(make_ratios(setting, runs))
            counters[str(setting.prefix)] = facts
    value = common.report("training", rows, ratios, counters)
    show(out, value)
    return value


def make_workloads(settings: Sequence[Setting], folder: Path) -> dict[Setting, Workload]:
    """Make the workload at each prefix length: with as many of the servers' tools as make about that many tokens."""
    tools, tokenizer = demo_tools(folder), load_tokenizer(EMBEDDED)
    train, test = (
        generate_requests(split, GENERATED, seed=SEED, tools=tools, answer_every=0) for split in ("train", "test")
    )
    works = {}
    for setting in settings:
        choices = [
            Workload(
                EMBEDDED,
                setting.cards,
                setting.batch_size,
                select_trajectories(train, visible),
                select_trajectories(test, visible),
            )
            for visible in (tools[:count] for count in range(1, len(tools) + 1))
        ]
        nearest = min(choices, key=lambda work: abs(work.prefix_length(tokenizer) - setting.prefix))
        works[setting] = replace(
            nearest, train=nearest.train[: setting.requests], held_out=nearest.held_out[: setting.held_out]
        )
    run_isolated(save_first_weights, works[settings[0]], folder / "start")
    return works


def demo_tools(folder: Path) -> tuple[Tool, ...]:
    """The tools that the demo's servers list, the filesystem server's first."""
    workspace = Workspace(folder / "workspace")
    workspace.prepare()
    with connect(read_config(workspace.config)) as toolbox:
        return toolbox.tools


def select_trajectories(trajectories: Sequence[Trajectory], tools: tuple[Tool, ...]) -> tuple[Trajectory, ...]:
    """Select the trajectories that call only these tools, with only these visible."""
    names = {tool.name for tool in tools}
    return tuple(
        replace(trajectory, tools=tools)
        for trajectory in trajectories
        if all(call.name in names for message in trajectory.messages for call in message.tool_calls)
    )


def count_tokens(setting: Setting, work: Workload) -> dict[str, Any]:
    """Count the tokens that one of the equal examples costs each engine: they explain the figures."""
    tokenizer = load_tokenizer(work.model)
    taken = [example for group in work.batches(tokenizer, "all", setting.steps) for example in group]
    equal = replace(work, train=tuple(work.train[example.conversation] for example in taken))
    trained = {
        activation: mean(len(example.tokens) - 1 - example.active for example in equal.examples(tokenizer, activation))
        for activation in OURS
    }
    learned = mean(example.learned for example in taken)
    return {
        "tools": len(work.train[0].tools),
        "prefix_tokens": work.prefix_length(tokenizer),
        "examples": len(taken),
        "target_tokens_per_example": learned,
        "trained_tokens_per_example": {PEER: trained["all"], **trained},
        "head_positions_per_example": {PEER: trained["all"], **dict.fromkeys(OURS, learned)},
    }


def measure(setting: Setting, work: Workload, folder: Path, out: Console) -> list[TimedRun]:
    """Run every engine at one prefix length."""
    runs = []
    for engine in (PEER, *OURS):
        steps, run_folder = setting.steps_of(engine), folder / f"{engine}-{setting.prefix}"
        out.print(f"{engine}, prefix of {setting.prefix} tokens: {steps} steps of {setting.batch_size}", markup=False)
        if engine == PEER:
            runs.append(run_isolated(train_peer, work, folder / "start", run_folder, steps))
        else:
            runs.append(run_isolated(train_ours, work, engine, run_folder, steps))
    return runs


def check_first_losses(runs: Sequence[TimedRun]) -> None:
    """Refuse to compare engines that did not train the same.

    Raises:
        TrainingError: when the losses of the first step differ.
    """
    first = {one.engine: one.losses[0] for one in runs}
    if not all(isclose(loss, first[PEER], rel_tol=1e-3) for loss in first.values()):
        raise TrainingError(
            "the engines do not train the same thing",
            where="the loss of the first step, when no adapter changes anything yet",
            got=", ".join(f"{engine} {loss:.5f}" for engine, loss in first.items()),
            expected="four times the same",
        )


def measure_knowledge(
    runs: Sequence[TimedRun], work: Workload, folder: Path, out: Console
) -> dict[str, dict[str, Any]]:
    """Measure what each engine learns from equal examples, and in the time that mlx-lm takes for them."""
    budget = sum(runs[0].seconds)
    found: dict[str, dict[str, Any]] = {}
    for one in runs:
        out.print(f"{one.engine}: {len(work.held_out)} held-out requests", markup=False)
        same = make_knowledge(one, run_isolated(measure_held_out, work, one.folder))
        longer = same
        if one.engine != PEER:
            out.print(f"{one.engine}: {budget:.0f} s of training, then the requests again", markup=False)
            run = run_isolated(train_ours, work, one.engine, folder / f"{one.engine}-longer", seconds=budget)
            longer = make_knowledge(run, run_isolated(measure_held_out, work, run.folder))
        found[one.engine] = {"equal_examples": same, "equal_time": longer}
    return found


def make_knowledge(run: TimedRun, result: HeldOutResult) -> dict[str, Any]:
    """A run's figures on held-out requests, with the examples and seconds that it took."""
    return {
        "examples": len(run.seconds) * run.batch_size,
        "seconds": sum(run.seconds) + run.prefix_seconds,
        "loss": result.loss,
        "accuracy": result.right / result.asked,
        "interval": wilson_interval(result.right, result.asked),
        "n": result.asked,
    }


def make_row(setting: Setting, facts: Mapping[str, Any], run: TimedRun, learned: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one engine at one prefix length."""
    speed = median(run.speeds)
    equal = run.losses[: setting.steps]
    return {
        "engine": run.engine,
        "prefix": setting.prefix,
        "prefix_tokens": facts["prefix_tokens"],
        "batch_size": run.batch_size,
        "step_seconds": spread(run.seconds),
        "examples_per_second": speed,
        "examples_per_second_with_prefix": run.speed_with_prefix(RUN),
        "target_tokens_per_second": speed * facts["target_tokens_per_example"],
        "prefix_seconds": run.prefix_seconds,
        "peak_memory": run.peak_memory,
        "first_loss": equal[0],
        "loss_after_equal_examples": mean(equal[-LAST:]),
        "equal_examples": facts["examples"],
        **({"held_out": learned} if learned else {}),
    }


def make_ratios(setting: Setting, runs: Sequence[TimedRun]) -> dict[str, dict[str, float]]:
    """The ratios at one prefix length. Those of ``turn``, the default, have names without an activation."""
    peer, *ours = runs
    ratios = {}
    for one in ours:
        suffix = f"vs_mlx_lm@{setting.prefix}" + ("" if one.engine == "turn" else f":{one.engine}")
        amortised = ratio([one.speed_with_prefix(RUN)], [peer.speed_with_prefix(RUN)])
        ratios[f"examples_per_second_{suffix}"] = ratio(one.speeds, peer.speeds)
        ratios[f"examples_per_second_with_prefix_{suffix}"] = amortised
        ratios[f"peak_memory_{suffix}"] = ratio([one.peak_memory], [peer.peak_memory])
    return ratios


def show(out: Console, value: Mapping[str, Any]) -> None:
    """Print the figures, what was learned if that was measured, and the goals."""
    rows, ratios = value["rows"], value["ratios"]
    columns = ["engine", "prefix", "batch", "s/step", "examples/s", "ratio", "GiB", "ratio", "loss"]
    common.print_table(out, "Training the selector", columns, [_line(one, ratios) for one in rows])
    out.print(
        f"s/step: median. ratio: ours over mlx-lm's. loss: mean of the last {LAST} steps of the equal examples.",
        markup=False,
    )
    learned = [_knowledge_line(one) for one in rows if "held_out" in one]
    if learned:
        columns = ["engine", "examples", "right tool", "loss", "examples", "right tool", "loss"]
        common.print_table(out, "Held-out requests, after equal examples and after equal time", columns, learned)
    common.print_ratios(out, ratios)
    common.print_goals(out, ratios, GOALS)


def _line(one: Mapping[str, Any], ratios: Mapping[str, Mapping[str, float]]) -> list[str]:
    engine = one["engine"]
    suffix = f"vs_mlx_lm@{one['prefix']}" + ("" if engine == "turn" else f":{engine}")
    speed, memory = (
        f"{ratios[f'{name}_{suffix}']['median']:.3g}" if engine != PEER else ""
        for name in ("examples_per_second", "peak_memory")
    )
    return [
        engine,
        f"{one['prefix_tokens']}",
        f"{one['batch_size']}",
        f"{one['step_seconds']['median']:.2f}",
        f"{one['examples_per_second']:.3g}",
        speed,
        f"{one['peak_memory'] / GIB:.2f}",
        memory,
        f"{one['loss_after_equal_examples']:.3f}",
    ]


def _knowledge_line(one: Mapping[str, Any]) -> list[str]:
    cells = [one["engine"]]
    for after in ("equal_examples", "equal_time"):
        figures = one["held_out"][after]
        low, high = figures["interval"]
        right = f"{figures['accuracy']:.1%} ({low:.0%}-{high:.0%})"
        cells += [f"{figures['examples']}", right, f"{figures['loss']:.3f}"]
    return cells


if __name__ == "__main__":
    common.main(__file__)
