"""That all ways to switch end with the token they should, and what is made of their times."""

from __future__ import annotations

import io
import json
from itertools import islice

import mlx.core as mx
import pytest
from rich.console import Console

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.benchmarks import switch_methods, switching
from dualtune_mlx.benchmarks.switch_methods import OWN_KV, Round, Switch, SwitchTask
from dualtune_mlx.models import load_model
from dualtune_mlx.tools import Tool
from tests import tiny
from tests.benchmarks.conftest import here

TOOLS = tuple(Tool(name, "", {"type": "object", "properties": {"path": {}}}) for name in ("list", switching.TOOL))
SETTING = switching.Setting("name", rounds=2, decoded=3)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> SwitchTask:
    folder = tmp_path_factory.mktemp("switching")
    model = tiny.save(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(switching, "run_isolated", lambda function, *arguments: function(*arguments))
        return switching.make_task(SETTING, TOOLS, str(model), folder)


@pytest.fixture(scope="module")
def mine(task) -> list[Round]:
    return list(islice(switch_methods.time_ours(task, 3), 2))


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
    methods = switch_methods.time_reload(task), switch_methods.time_load_adapters(task)
    rounds = [one for method in methods for one in islice(method, 2)]
    switches = [(way, switch) for one in rounds for way, switch in one.switches.items()]
    assert [switch.token for _, switch in switches] == [expected(task, 0)] * 6
    assert {(way, switch.processed) for way, switch in switches} == {
        (("reload", ""), len(task.tokens)),
        (("load_adapters", ""), len(task.tokens)),
        ((OWN_KV, "turn"), len(task.tokens) - task.starts["turn"]),
    }
    assert all(switch.seconds > 0 for _, switch in switches)


def test_every_form_of_ours_ends_with_the_token_of_its_activation(task, mine):
    for one in mine:
        assert set(one.switches) == {(form, activation) for form in switch_methods.FORMS for activation in task.starts}
        for (_, activation), switch in one.switches.items():
            start = task.starts[activation]
            assert (switch.token, switch.processed) == (expected(task, start), len(task.tokens) - start)


def test_the_kv_of_one_prefix_is_kept_for_each_adapter_by_mlx_lm_and_once_by_us(task, mine):
    prefix = load_model(task.model).snapshot(task.tokens[: task.starts["turn"]])
    kv = sum(keys.nbytes + values.nbytes for keys, values in prefix.layers)
    theirs = next(switch_methods.time_load_adapters(task)).switches
    assert (theirs[OWN_KV, "turn"].adapter_kv, theirs[OWN_KV, "turn"].shared_kv) == (kv, 0)
    assert (theirs["load_adapters", ""].adapter_kv, theirs["load_adapters", ""].shared_kv) == (0, 0)
    assert {(switch.adapter_kv, switch.shared_kv) for switch in mine[0].switches.values()} == {(0, kv)}


def test_ours_also_gives_the_reference_change_and_decoding(mine):
    for one in mine:
        assert set(one.decoding) == {"base", "low_rank", "fused"} and all(speed > 0 for speed in one.decoding.values())
        assert all(len(taken) == switch_methods.REFERENCE_CHANGES for taken in one.reference_changes.values())
        assert one.adapter_bytes["fused"] > 0 and one.adapter_bytes["low_rank"] > 0


def figures(**ours: float) -> dict[switch_methods.Way, list[Switch]]:
    seconds = {("reload", ""): 40.0, ("load_adapters", ""): 20.0, (OWN_KV, "turn"): 0.5}
    seconds |= {(form, "turn"): found for form, found in ours.items()}
    seconds |= {(form, "invocation"): found / 4 for form, found in ours.items()}
    return {way: [Switch(value, 1, 9)] for way, value in seconds.items()}


def test_ratios_are_named_by_peer_activation_and_form():
    ratios = switching.make_ratios(figures(low_rank=0.4, fused=0.2, fused_cold=0.8))
    medians = {name: value["median"] for name, value in ratios.items()}
    assert medians["switch_time_vs_reload"] == medians["switch_time_vs_reload@turn"] == pytest.approx(0.01)
    assert medians["switch_time_vs_load_adapters"] == pytest.approx(0.02)
    assert medians["switch_time_vs_load_adapters:fused"] == pytest.approx(0.01)
    assert medians["switch_time_vs_load_adapters@turn:fused"] == pytest.approx(0.01)
    assert medians["switch_time_vs_load_adapters@invocation:fused_cold"] == pytest.approx(0.01)
    assert medians["switch_time_vs_own_kv"] == pytest.approx(0.8)
    assert medians["switch_time_vs_own_kv@invocation:fused"] == pytest.approx(0.1)
    assert len(ratios) == 3 * 3 * 3


def test_decoding_is_compared_by_speed():
    rounds = [Round({}, {"base": 10.0, "low_rank": 5.0, "fused": fused}) for fused in (10.0, 20.0)]
    ratios = switching.make_decoding_ratios(rounds)
    assert ratios["decode_speed_low_rank_vs_base"]["median"] == pytest.approx(0.5)
    assert ratios["decode_speed_fused_vs_base"]["median"] == pytest.approx(1.5)
    assert ratios["decode_speed_fused_vs_base"]["max"] == pytest.approx(2)


def test_a_whole_run_on_a_tiny_model_prints_and_reports(task, monkeypatch):
    here(monkeypatch)
    monkeypatch.setattr(switching, "run_isolated", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(switching, "demo_tools", lambda folder: TOOLS)
    monkeypatch.setattr(switching, "make_task", lambda *_: task)
    monkeypatch.setattr(switching, "QUICK", SETTING)
    written = io.StringIO()
    value = json.loads(json.dumps(switching.run(True, Console(file=written, width=80))))

    assert value["benchmark"] == "switching"
    assert [one["way"] for one in value["rows"][:3]] == ["reload", "load_adapters", OWN_KV]
    assert [one["form"] for one in value["rows"][-3:]] == ["base", "low_rank", "fused"]
    assert {one["seconds"]["n"] for one in value["rows"] if "way" in one} == {2}
    assert set(switching.GOALS) < set(value["ratios"])
    change = value["counters"]["reference_change_microseconds"]
    assert set(change) == {"low_rank", "fused"} and change["fused"]["n"] == 2 * switch_methods.REFERENCE_CHANGES
    assert value["counters"]["stream_tokens"] == len(task.tokens)
    assert "goal switch_time_vs_load_adapters@invocation at most 0.01" in written.getvalue()
    assert "goal reference change (fused) under 1 ms" in written.getvalue()
    assert "…" not in written.getvalue()
