"""That all ways to switch end with the token they should, and what is made of their times."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import mlx.core as mx
import pytest
from rich.console import Console

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.benchmarks import switch_methods, switching
from dualtune_mlx.benchmarks.switch_methods import OurResults, SwitchTask, TimedSwitches
from dualtune_mlx.models import load_model
from dualtune_mlx.tools import Tool
from tests import tiny

TOOLS = tuple(Tool(name, "", {"type": "object", "properties": {"path": {}}}) for name in ("list", switching.TOOL))
SETTING = switching.Setting("name", peer_repeats=2, our_repeats=2, decoded=3)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> SwitchTask:
    folder = tmp_path_factory.mktemp("switching")
    model = tiny.save(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(switching, "run_isolated", lambda function, *arguments: function(*arguments))
        return switching.make_task(SETTING, TOOLS, str(model), folder)


@pytest.fixture(scope="module")
def mine(task) -> OurResults:
    return switch_methods.time_ours(task, 2, 3)


def expected(task: SwitchTask, start: int) -> int:
    """The first argument token by a plain pass: base weights up to a position, the adapter's merged ones behind it."""
    base = load_model(task.model)
    caches = base.snapshot(task.tokens[:start]).to_caches(start) if start else base.new_caches()
    for name, update in Adapter.load(task.arguments).layers.items():
        linear = base.bank.layers[name].linear
        linear.weight = linear.weight + update.scale * (update.a @ update.b).T
    logits = base.head(base.hidden(mx.array([task.tokens[start:]]), caches)[0, -1])
    return int(mx.argmax(logits).item())


def test_the_task_ends_where_the_arguments_begin(task):
    text = tiny.tokenizer().decode(list(task.tokens))
    assert text.endswith(f"<|im_start|>assistant\n{switching.TOOL}\n")
    turn, invocation = (tiny.tokenizer().decode(list(task.tokens[start:])) for start in task.starts.values())
    assert turn.startswith(f"<|im_start|>user\n{switching.REQUEST}")
    assert invocation.startswith("<|im_start|>assistant")


def test_the_adapters_are_two_that_both_act(task):
    one, two = Adapter.load(task.selector), Adapter.load(task.arguments)
    assert one.content_hash != two.content_hash
    assert all(update.b.any().item() for adapter in (one, two) for update in adapter.layers.values())
    assert (one.config.rank, len(one.layers)) == (16, 14)


def test_every_way_of_mlx_lm_s_ends_with_its_token(task):
    found = [switch_methods.time_reload(task, 2), *switch_methods.time_load_adapters(task, 2)]
    assert [switches.tokens for switches in found] == [(expected(task, 0),) * 2] * 3
    assert [switches.processed for switches in found] == [
        len(task.tokens),
        len(task.tokens),
        len(task.tokens) - task.starts["turn"],
    ]
    assert all(seconds > 0 for switches in found for seconds in switches.seconds)


def test_every_form_of_ours_ends_with_the_token_of_its_activation(task, mine):
    assert set(mine.switches) == {(form, activation) for form in switch_methods.FORMS for activation in task.starts}
    for (_, activation), switches in mine.switches.items():
        start = task.starts[activation]
        assert switches.tokens == (expected(task, start),) * 2
        assert switches.processed == len(task.tokens) - start


def test_ours_also_gives_the_reference_change_and_decoding(mine):
    assert {form: len(taken) for form, taken in mine.decoding.items()} == {"base": 3, "low_rank": 3, "fused": 3}
    assert all(len(taken) == switch_methods.REFERENCE_CHANGES for taken in mine.reference_changes.values())
    assert mine.nbytes["fused"] > 0 and mine.nbytes["low_rank"] > 0


def figures(**ours: float) -> dict[tuple[str, str], TimedSwitches]:
    seconds = {("reload", ""): 40.0, ("load_adapters", ""): 20.0}
    seconds |= {(form, "turn"): found for form, found in ours.items()}
    seconds |= {(form, "invocation"): found / 4 for form, found in ours.items()}
    return {key: TimedSwitches((value,), (1,), 9) for key, value in seconds.items()}


def test_ratios_are_named_by_peer_activation_and_form():
    ratios = switching.make_ratios(figures(low_rank=0.4, fused=0.2, fused_cold=0.8))
    medians = {name: value["median"] for name, value in ratios.items()}
    assert medians["switch_time_vs_reload"] == medians["switch_time_vs_reload@turn"] == pytest.approx(0.01)
    assert medians["switch_time_vs_load_adapters"] == pytest.approx(0.02)
    assert medians["switch_time_vs_load_adapters:fused"] == pytest.approx(0.01)
    assert medians["switch_time_vs_load_adapters@turn:fused"] == pytest.approx(0.01)
    assert medians["switch_time_vs_load_adapters@invocation:fused_cold"] == pytest.approx(0.01)
    assert len(ratios) == 2 * 3 * 3


def test_decoding_is_compared_by_speed():
    mine = OurResults({}, {}, {"base": (0.1, 0.1), "low_rank": (0.2, 0.2), "fused": (0.1, 0.05)}, {})
    ratios = switching.make_decoding_ratios(mine)
    assert ratios["decode_speed_low_rank_vs_base"]["median"] == pytest.approx(0.5)
    assert ratios["decode_speed_fused_vs_base"]["median"] == pytest.approx(1.5)
    assert ratios["decode_speed_fused_vs_base"]["max"] == pytest.approx(2)


def test_a_whole_run_on_a_tiny_model_prints_and_reports(task, monkeypatch):
    monkeypatch.setattr(switching, "run_isolated", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(switching, "demo_tools", lambda folder: TOOLS)
    monkeypatch.setattr(switching, "make_task", lambda *_: task)
    monkeypatch.setattr(switching, "QUICK", replace(SETTING, peer_repeats=1))
    written = io.StringIO()
    value = json.loads(json.dumps(switching.run(True, Console(file=written, width=200))))

    assert value["benchmark"] == "switching"
    assert [one["way"] for one in value["rows"][:3]] == ["reload", "load_adapters", switching.KEPT]
    assert [one["form"] for one in value["rows"][-3:]] == ["base", "low_rank", "fused"]
    assert set(switching.GOALS) < set(value["ratios"])
    change = value["counters"]["reference_change_microseconds"]
    assert set(change) == {"low_rank", "fused"} and change["fused"]["n"] == switch_methods.REFERENCE_CHANGES
    assert value["counters"]["stream_tokens"] == len(task.tokens)
    assert "goal switch_time_vs_load_adapters@invocation at most 0.01" in written.getvalue()
    assert "goal reference change (fused) under 1 ms" in written.getvalue()
