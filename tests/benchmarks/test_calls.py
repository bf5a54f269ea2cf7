"""That every method writes the same calls at the cost it is said to have, and what is made of the times."""

from __future__ import annotations

import io
import json
from itertools import islice
from pathlib import Path
from shutil import copytree

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import call_methods, calls
from dualtune_mlx.benchmarks.call_methods import Cost, Peer, TimedCalls, Workload
from dualtune_mlx.benchmarks.memorized import KnownCall
from dualtune_mlx.benchmarks.switch_methods import save_adapters
from dualtune_mlx.errors import TrainingError
from dualtune_mlx.tools import ToolCall
from tests import tiny
from tests.benchmarks.conftest import CALLS, TOOLS, here

ROUNDS = 2


@pytest.fixture(scope="module")
def folder(model, learned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlx-lm's two adapters, and a bundle that knows the calls."""
    folder = tmp_path_factory.mktemp("calls")
    save_adapters(model, folder / "selector", folder / "arguments")
    copytree(learned("turn"), folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def work(model) -> Workload:
    return Workload(model, "name", TOOLS, CALLS)


@pytest.fixture(autouse=True)
def samples(monkeypatch) -> int:
    """Three of the authors' ten: what each of them costs is all that is asked."""
    monkeypatch.setattr(call_methods, "SAMPLES", 3)
    return call_methods.SAMPLES


class Counting:
    """A model that notes the shape of the tokens of every forward pass."""

    def __init__(self, model):
        self.model, self.shapes = model, []

    def __call__(self, tokens, **others):
        self.shapes.append(tokens.shape)
        return self.model(tokens, **others)

    def __getattr__(self, name):
        return getattr(self.model, name)


@pytest.fixture
def passes(monkeypatch) -> list[list[tuple[int, int]]]:
    """The shapes of the passes of every peer that is loaded, after its prefixes were warmed."""
    loaded = []
    load, prefill = Peer.load, Peer.prefill

    def counting(model, adapter):
        peer = load(model, adapter)
        loaded.append(Counting(peer.model))
        return Peer(loaded[-1], peer.tokenizer)

    def uncounted(peer, prefix):
        cache = prefill(peer, prefix)
        peer.model.shapes.clear()
        return cache

    monkeypatch.setattr(Peer, "load", counting)
    monkeypatch.setattr(Peer, "prefill", uncounted)
    return loaded


def measured(rounds) -> TimedCalls:
    return call_methods.join_rounds(list(islice(rounds, ROUNDS)))


def text(tokens) -> str:
    return tiny.tokenizer().decode(list(tokens))


def test_ours_costs_what_lies_behind_the_activation_point(work, folder):
    found = measured(call_methods.time_ours(work, folder / "bundle", "turn"))
    assert [len(seconds) for seconds in found.seconds] == [ROUNDS] * len(CALLS)
    for one, cost in zip(CALLS, found.costs, strict=True):
        stream = work.render(tiny.tokenizer(), one)
        expected = [stream.active_tokens(stage, "turn") for stage in ("selector", "arguments")]
        assert all(text(prompt).startswith(f"<|im_start|>user\n{one.request}") for prompt in expected)
        assert cost.prefilled == sum(map(len, expected))
        assert cost.decoded + cost.forced > len(one.call.arguments["path"])
        assert cost.forced > 0


def test_our_method_refuses_to_time_a_call_that_is_not_the_others(work, folder):
    wrong = KnownCall(CALLS[0].request, ToolCall("list", {"path": "c"}))
    with pytest.raises(TrainingError, match="another call"):
        next(call_methods.time_ours(Workload(work.model, "name", TOOLS, (wrong,)), folder / "bundle", "turn"))


@pytest.mark.parametrize(("adapter", "compact"), [("selector", False), (None, True)])
def test_one_stage_costs_a_pass_a_token(work, folder, passes, adapter, compact):
    work = Workload(work.model, work.cards, work.tools, CALLS[:1])
    found = measured(call_methods.time_one_stage(work, adapter and folder / adapter, compact))
    (cost,), (peer,) = found.costs, passes
    written = 'read\n{"path": "a.txt"}' if compact else '{"name": "read", "arguments": {"path": "a.txt"}}'
    assert cost.decoded == len(written) + 1
    # mlx-lm begins a pass beyond the last token, which nobody waits for.
    assert len(peer.shapes) == ROUNDS * (cost.forwards + 1)
    assert sum(length for _, length in peer.shapes) == ROUNDS * (cost.prefilled + cost.decoded)
    prompt = "<|im_start|>user\nshow a.txt<|im_end|>\n<|im_start|>assistant\n"
    assert cost.prefilled == len(tiny.tokenizer().encode(prompt, add_special_tokens=False))


@pytest.mark.parametrize("batched", [True, False])
def test_all_samples_cost_their_names_and_the_arguments(work, folder, passes, samples, batched):
    found = measured(call_methods.time_ten_samples(work, folder / "selector", folder / "arguments", batched))
    name, written = len('{"name": "read"}') + 1, len('{"path": "a.txt"}') + 1
    cost = found.costs[0]
    assert cost.decoded == samples * name + written
    assert cost.forwards == 1 + (1 if batched else samples) * name + 1 + written
    choosing, _ = passes
    beyond = 1 if batched else samples
    assert len(choosing.shapes) == len(CALLS) * ROUNDS * (1 + beyond * (name + 1))
    rows = {rows for rows, _ in choosing.shapes}
    assert rows == ({1, samples} if batched else {1})


@pytest.mark.parametrize("sample", [Peer.sample_together, Peer.sample_in_turn])
def test_every_sample_is_drawn_and_scripted(work, folder, samples, sample):
    peer = Peer.load(work.model, folder / "selector")
    prompt = tuple(tiny.tokenizer().encode("say it"))
    cache = peer.prefill(prompt)
    restore = call_methods._make_restore(cache)
    assert sample(peer, cache, prompt, peer.encode_json({"name": "read"})) == ['{"name": "read"}'] * samples
    assert cache[0].offset == 2 * len(prompt) - 1  # the prompt, once, but for the token that every sample begins with
    restore()
    assert cache[0].offset == len(prompt)


def figures(**seconds: float) -> dict[calls.Method, TimedCalls]:
    methods = {
        ("ours", "turn"): "turn",
        ("ours", "invocation"): "invocation",
        calls.ONE_STAGE: "one_stage",
        calls.AT_BEST: "at_best",
        calls.SAMPLES[0]: "batched",
        calls.SAMPLES[1]: "in_turn",
    }
    cost = Cost(1, 2, 3, 4)
    return {
        method: TimedCalls(((seconds[name],), (3 * seconds[name],)), (cost, cost + cost))
        for method, name in methods.items()
    }


def test_ratios_are_of_a_mean_call_and_to_the_faster_samples():
    found = figures(turn=1.0, invocation=0.5, one_stage=2.0, at_best=1.6, batched=4.0, in_turn=5.0)
    medians = {name: value["median"] for name, value in calls.make_ratios(found).items()}
    assert medians["call_time_vs_one_stage"] == pytest.approx(0.5)
    assert medians["call_time_vs_one_stage@invocation"] == pytest.approx(0.25)
    assert medians["call_time_vs_one_stage_at_best"] == pytest.approx(0.625)
    assert medians["call_time_vs_ten_samples"] == pytest.approx(0.25)
    assert medians["call_time_vs_ten_samples_in_turn"] == pytest.approx(0.2)
    assert len(medians) == 4 * 2


def test_a_row_has_the_mean_and_every_call():
    found = figures(turn=1.0, invocation=1.0, one_stage=1.0, at_best=1.0, batched=1.0, in_turn=1.0)
    row = calls.make_row(("ours", "turn"), CALLS, found["ours", "turn"])
    assert (row["seconds"]["median"], row["prefilled"], row["forced"]) == (2.0, 1.5, 6.0)
    assert row["calls"]["list"] == {
        "seconds": {"median": 3.0, "min": 3.0, "max": 3.0, "n": 1},
        **{"prefilled": 2, "forwards": 4, "decoded": 6, "forced": 8},
    }


def test_a_whole_run_on_a_tiny_model_prints_and_reports(work, folder, monkeypatch):
    here(monkeypatch)
    monkeypatch.setattr(calls, "run_isolated", lambda function, *arguments, **named: function(*arguments, **named))
    monkeypatch.setattr(calls, "demo_tools", lambda folder: TOOLS)
    monkeypatch.setattr(calls, "EMBEDDED", work.model)
    monkeypatch.setattr(calls, "CALLS", CALLS)
    monkeypatch.setattr(calls, "QUICK", calls.Setting("name", rounds=2))
    monkeypatch.setattr(calls, "memorize", lambda *_, **given: copytree(folder / "bundle", given["folder"]))
    written = io.StringIO()
    value = json.loads(json.dumps(calls.run(True, Console(file=written, width=80))))

    assert value["benchmark"] == "calls"
    assert [(one["way"], one["form"]) for one in value["rows"]] == [
        ("ours", "turn"),
        ("ours", "invocation"),
        calls.ONE_STAGE,
        calls.AT_BEST,
        *calls.SAMPLES,
    ]
    assert {one["seconds"]["n"] for one in value["rows"]} == {2}
    assert set(calls.GOALS) < set(value["ratios"])
    assert value["counters"]["tools"] == len(TOOLS)
    assert "goal call_time_vs_one_stage at most 0.6: " in written.getvalue()
    assert "…" not in written.getvalue()
