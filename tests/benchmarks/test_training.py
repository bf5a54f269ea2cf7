"""That the two trainers are given the same work, and what is made of their figures."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest
from rich.console import Console

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.benchmarks import engines, training
from dualtune_mlx.benchmarks.engines import OURS, PEER, TimedRun, Workload, peer_batches, train_ours, train_peer
from dualtune_mlx.benchmarks.training import Setting
from dualtune_mlx.errors import TrainingError
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training import trainer
from tests import tiny

TOOLS = tuple(
    Tool(name, "", {"type": "object", "properties": {"path": {"type": "string"}}})
    for name in ("read", "list_all", "drop")
)
REQUESTS = ("show a.txt", "what is there?", "rm the file called x", "open the second one, please", "bye", "cat z")
STEPS = 4


def trajectory(number: int, request: str) -> Trajectory:
    answer = Message("assistant", "", (ToolCall(TOOLS[number % 3].name, {"path": "x"}),))
    return Trajectory((Message("user", request), answer), TOOLS)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tiny.save(tmp_path_factory.mktemp("benchmark") / "model")
    trajectories = tuple(trajectory(*pair) for pair in enumerate(REQUESTS))
    return Workload(str(folder), "name", 2, trajectories[:5], trajectories[5:])


@pytest.fixture(scope="module")
def start(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "adapter"
    engines.save_first_weights(work, folder)
    return folder


@pytest.fixture(scope="module")
def runs(work, start, tmp_path_factory) -> dict[str, TimedRun]:
    folder = tmp_path_factory.mktemp("runs")
    ours = {name: train_ours(work, name, folder / name, STEPS) for name in OURS}
    return {PEER: train_peer(work, start, folder / PEER, STEPS), **ours}


def learned_by_the_peer(tokens: mx.array, ranges: mx.array) -> list[tuple[int, ...]]:
    """The targets of each row, by the mask that mlx-lm's default loss makes."""
    steps = np.arange(1, tokens.shape[1])
    rows = zip(np.array(tokens), np.array(ranges), strict=True)
    return [tuple(row[1:][(steps >= first) & (steps <= last)].tolist()) for row, (first, last) in rows]


def test_both_see_the_same_tokens_and_learn_the_same_targets(work, monkeypatch, tmp_path):
    seen = []

    def spied(examples, prefix, whole=None, make=trainer.make_batch):
        seen.append(list(examples))
        return make(examples, prefix, whole)

    monkeypatch.setattr(trainer, "make_batch", spied)
    train_ours(work, "all", tmp_path / "all", STEPS)
    groups = seen[2 : 2 + STEPS]  # after a step and a validation to warm up, before the last validation

    drawn = list(peer_batches(work.batches(tiny.tokenizer(), "all", STEPS), 2, 10**9))
    assert len(groups) == len(drawn) == STEPS
    for group, (tokens, ranges) in zip(groups, drawn, strict=True):
        rows = zip(np.array(tokens).tolist(), np.array(ranges).tolist(), strict=True)
        assert {tuple(row[: last + 1]) for row, (_, last) in rows} == {example.tokens for example in group}
        targets = {example.tokens[example.targets[0].start : example.targets[0].end] for example in group}
        assert set(learned_by_the_peer(tokens, ranges)) == targets


def test_all_begin_with_the_same_loss_and_all_tokens_follow_the_peer(runs):
    first = [run.losses[0] for run in runs.values()]
    assert first == pytest.approx([first[0]] * 4, rel=1e-4)
    assert runs["all"].losses == pytest.approx(runs[PEER].losses, rel=1e-4)
    assert all(run.losses[-1] < run.losses[0] for run in runs.values())
    assert runs["turn"].losses[-1] != pytest.approx(runs["all"].losses[-1], rel=1e-4)


def test_the_peer_s_adapter_is_the_one_that_ours_makes(runs, start):
    ours, peers, before = (Adapter.load(folder) for folder in (runs["all"].folder, runs[PEER].folder, start))
    assert ours.layers.keys() == peers.layers.keys() == before.layers.keys()
    for name, update in ours.layers.items():
        for part, array in update.parts.items():
            # Adam divides by a gradient's size, however small: an entry with almost none goes where rounding sends it.
            moved = mx.abs(array - peers.layers[name].parts[part]) > 1e-4
            assert moved.astype(mx.float32).mean().item() < 0.01, (name, part)
            if part == "b":
                assert mx.abs(array).max().item() > 1e-4


def test_a_run_ends_when_its_time_is_up(work, tmp_path):
    run = train_ours(work, "turn", tmp_path / "turn", seconds=0.5)
    assert sum(run.seconds[:-1]) < 0.5


def test_an_adapter_is_judged_whoever_trained_it(work, runs):
    for name in (PEER, "turn"):
        judged = engines.measure_held_out(work, runs[name].folder)
        assert judged.asked == len(work.held_out)
        assert 0 <= judged.right <= judged.asked
        assert judged.loss > 0


def fake(engine: str, seconds: float, memory: int, prefix: float = 0.0, first: float = 5.0) -> TimedRun:
    return TimedRun(engine, 2, tuple(seconds * k for k in (1, 2, 3)), (first, 2.0, 1.0), memory, prefix, None)


def figures(**changes: TimedRun) -> list[TimedRun]:
    found = {
        PEER: fake(PEER, 10.0, 1000),
        "all": fake("all", 5.0, 500),
        "turn": fake("turn", 0.5, 100, 20.0),
        "invocation": fake("invocation", 0.1, 90, 20.0),
    }
    return list({**found, **changes}.values())


def test_engines_that_did_not_do_the_same_are_not_compared():
    training.check_first_losses(figures())
    with pytest.raises(TrainingError, match="turn 5.10000"):
        training.check_first_losses(figures(turn=fake("turn", 1.0, 1, first=5.1)))


def test_ratios_are_named_by_prefix_and_activation():
    ratios = training.make_ratios(training.QUICK[0], figures())
    assert ratios["examples_per_second_vs_mlx_lm@3600"] == pytest.approx(
        {"median": 20.0, "min": 20 / 3, "max": 60.0, "n": 3}
    )
    assert ratios["peak_memory_vs_mlx_lm@3600"]["median"] == 0.1
    assert ratios["examples_per_second_vs_mlx_lm@3600:invocation"]["median"] == pytest.approx(100)
    assert ratios["peak_memory_vs_mlx_lm@3600:all"]["median"] == 0.5
    # 1,000 examples in batches of two: 10,000 s by the peer; 500 s and 20 s for the prefix by ours.
    assert ratios["examples_per_second_with_prefix_vs_mlx_lm@3600"]["median"] == pytest.approx(10000 / 520)


def test_a_whole_run_on_a_tiny_model_prints_and_reports(work, start, monkeypatch):
    settings = [Setting(prefix, "name", 2, steps=2, more=3, held_out=held) for prefix, held in ((3600, 0), (345, 1))]
    monkeypatch.setattr(training, "run_isolated", lambda function, *arguments, **named: function(*arguments, **named))

    def make_workloads(_, folder):
        Adapter.load(start).save(folder / "start")
        return {setting: replace(work, held_out=work.held_out[: setting.held_out]) for setting in settings}

    monkeypatch.setattr(training, "make_workloads", make_workloads)
    written = io.StringIO()
    value = json.loads(json.dumps(training.run(True, Console(file=written, width=200))))

    assert value["benchmark"] == "training"
    assert [(one["prefix"], one["engine"]) for one in value["rows"]] == [
        (setting.prefix, engine) for setting in settings for engine in (PEER, *OURS)
    ]
    judged = [one for one in value["rows"] if one["prefix"] == 345]
    assert all(set(one["held_out"]) == {"equal_examples", "equal_time"} for one in judged)
    assert {name.partition("_vs")[0] for name in value["ratios"]} == {
        "examples_per_second",
        "examples_per_second_with_prefix",
        "peak_memory",
    }
    assert {name.partition("@")[2] for name in value["ratios"]} == {
        prefix + suffix for prefix in ("345", "3600") for suffix in ("", ":all", ":invocation")
    }
    trained = value["counters"]["345"]["trained_tokens_per_example"]
    for more, fewer in pairwise((PEER, *OURS)):
        assert trained[more] >= trained[fewer]
    assert "goal peak_memory_vs_mlx_lm@3600 at most 0.1" in written.getvalue()
