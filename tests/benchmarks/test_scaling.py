"""That sizes grow one at a time, that what does not fit is said, and what is made of the figures."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import memorized, scaling
from dualtune_mlx.benchmarks.catalogue import make_tools
from dualtune_mlx.benchmarks.scaling import Measurement, Results, Setting, Size
from dualtune_mlx.models import load_tokenizer
from tests import tiny
from tests.benchmarks.conftest import CALLS, TINY, TOOLS

CONTEXT = 2000
SETTING = Setting({"tools": (10, 20, 300), "history": (100, 300), "adapters": (1, 3)}, rounds=2)
EVERY = (*TOOLS, *make_tools(298))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("scaling") / "model", max_position_embeddings=CONTEXT))


@pytest.fixture(scope="module")
def found(model, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Everything in this process, with a call that a tiny model can learn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "run_isolated", lambda function, *arguments, **named: function(*arguments, **named))
        patch.setattr(scaling, "CALLS", CALLS[:1])
        patch.setattr(scaling, "CARDS", "name")
        for name, value in {**TINY, "TEMPLATE": tiny.TEMPLATE}.items():
            patch.setattr(memorized, name, value)
        return scaling.measure_all(SETTING, model, EVERY, tmp_path_factory.mktemp("found"), Console(file=io.StringIO()))


def test_each_size_grows_alone_and_is_measured_once():
    grown = [{}, {"history": 300}, {"tools": 20}, {"tools": 300}, {"adapters": 3}]
    assert scaling.sizes(SETTING) == [Size(**changes) for changes in grown]


def test_the_conversation_is_as_long_as_asked(model):
    tokenizer = load_tokenizer(model)
    short, long = (scaling.with_history(CALLS[0], tokenizer, history) for history in (100, 1000))
    assert (short.request, short.call) == (CALLS[0].request, CALLS[0].call)
    assert long.history[: len(short.history)] == short.history
    length = len(tiny.tokenizer().encode("".join(message.content for message in long.history)))
    assert 800 < length < 1100
    assert [message.role for message in long.messages[-2:]] == ["assistant", "user"]


def test_time_and_memory_at_every_size(found):
    least = found["hierarchy", Size()]
    assert isinstance(least, Measurement)
    assert len(least.seconds) == SETTING.rounds
    assert least.cold_seconds > 0 and least.load_seconds > 0
    assert least.kv_bytes == least.prefix_tokens * 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, float32
    longer, several = (found["hierarchy", Size(**size)] for size in ({"history": 300}, {"adapters": 3}))
    assert 200 < longer.prefix_tokens - least.prefix_tokens < 600  # once behind the servers, once behind the tools
    assert several.adapter_bytes * 3 == 5 * least.adapter_bytes  # a router, a selector, and one or three for arguments
    assert several.prefix_tokens == least.prefix_tokens
    fewer, more = (found["flat", Size(tools=n)] for n in (10, 20))
    assert more.prefix_tokens - fewer.prefix_tokens == sum(len(f"{tool.name}\n") for tool in EVERY[10:20])


def test_among_many_tools_only_the_hierarchy_goes_on(found):
    assert "longer than the model's context" in found["flat", Size(tools=300)]
    assert isinstance(found["hierarchy", Size(tools=300)], Measurement)
    assert found["hierarchy", Size(tools=300)].prefix_tokens < CONTEXT
    ratios = scaling.make_ratios(SETTING, found)
    assert {name for name in ratios if name.startswith("call_time")} == {
        "call_time_20_tools_vs_10",
        "call_time_20_tools_vs_10:flat",
        "call_time_300_tools_vs_10",
        "call_time_300_history_vs_100",
        "call_time_3_adapters_vs_1",
    }


def test_ratios_are_each_method_s_own():
    one = Measurement(1.0, 1.0, (1.0,), 1, 1, 1, 1, 100)
    found = {
        (method, Size(tools=n)): replace(one, seconds=(n**power,))
        for method, power in (("hierarchy", 0.5), ("flat", 1.0))
        for n in (10, 1000)
    }
    ratios = scaling.make_ratios(Setting({"tools": (10, 1000)}, 1), found)
    assert ratios["call_time_1000_tools_vs_10"]["median"] == pytest.approx(10)
    assert ratios["call_time_1000_tools_vs_10:flat"]["median"] == 100
    assert ratios["peak_memory_1000_tools_vs_10"]["median"] == 1


def test_a_whole_run_prints_and_reports(found, monkeypatch):
    asked = []
    monkeypatch.setattr(scaling, "demo_tools", lambda folder: TOOLS)
    monkeypatch.setattr(scaling, "measure_all", lambda setting, model, tools, *_: asked.append(tools) or found)
    monkeypatch.setattr(scaling, "QUICK", SETTING)
    written = io.StringIO()
    value = json.loads(json.dumps(scaling.run(True, Console(file=written, width=80))))

    assert asked == [EVERY]
    assert value["benchmark"] == "scaling"
    assert [(one["axis"], one[one["axis"]]) for one in value["rows"]] == [
        *(("tools", n) for n in (10, 20, 300)),
        *(("tools", n) for n in (10, 20, 300)),
        *(("history", n) for n in (100, 300)),
        *(("adapters", n) for n in (1, 3)),
    ]
    assert [one["axis"] for one in value["rows"] if "refused" in one] == ["tools"]
    assert value["counters"]["real_tools"] == 2
    assert "300 tools, flat: refused: the tools and the conversation are longer" in written.getvalue()
    assert "goal call_time_1000_tools_vs_10 at most 2: NOT measured" in written.getvalue()
    assert "…" not in written.getvalue()
