"""Many calls together are the calls that they would be one by one."""

from __future__ import annotations

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine import batch as batch_module
from dualtune_mlx.engine import dualtune as engine_module
from dualtune_mlx.engine.batch import write_batch
from dualtune_mlx.engine.events import run_to_end
from dualtune_mlx.engine.pipeline import CallPipeline, CallRequest
from dualtune_mlx.engine.registry import StageRegistry
from dualtune_mlx.errors import DecodingError, PromptError, UsageError
from dualtune_mlx.prompts import ARGUMENT_CARDS
from dualtune_mlx.tools import as_messages
from tests import tiny
from tests.adapters.adapters import adapter_for

TEXT = {"type": "string", "maxLength": 9}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
TOOLS = [
    Tool("read_file", "Read.", {"properties": {"path": TEXT}, "required": ["path"]}, "files"),
    Tool("read_dir", "List.", {"properties": {"path": TEXT, "deep": {"type": "boolean"}}}, "files"),
    Tool("add", "Add.", {"properties": {"a": DIGIT, "b": DIGIT}, "required": ["a"]}, "sums"),
    Tool("now", "Time.", server="clock"),
]
CALLED = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
REQUESTS = [
    "show a.txt",
    "what is in the folder notes, please?",
    [{"role": "system", "content": "Be short."}, {"role": "user", "content": "add 3 and 4"}],
    [
        {"role": "user", "content": "add 1 and then show b.txt"},
        {"role": "assistant", "content": "", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "1", "content": "1"},
    ],
    "show a.txt",
    "what time is it?",
    [
        {"role": "user", "content": "add 1 and then show b.txt"},
        {"role": "assistant", "content": "", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "1", "content": "1"},
        {"role": "assistant", "content": "It is 1."},
        {"role": "user", "content": "and now the folder"},
    ],
]
GROUNDED = {"files/read_file": {"path": ()}, "files/read_dir": {"path": ()}}


def parts(
    kind: str = "llama", activation: str = "turn", dora: bool = False, seed: int = 1, card: str = "none", **changes
):
    """A model, its renderer, and an adapter for the choice and for every tool but one."""
    base = tiny.model(seed, kind=kind, **changes)
    base.fusion.policy = "off"
    keys = [("selector", ""), *(("arguments", f"{tool.server}/{tool.name}") for tool in TOOLS[:3])]
    adapters = {
        key: adapter_for(base.bank, number, activation, scale=8.0, dora=dora and number == 2)
        for number, key in enumerate(keys, 1)
    }
    return base, tiny.renderer(base, card), adapters


def engine(**options) -> DualTune:
    return DualTune(*parts(**options), grounding=GROUNDED)


def assert_same(together, alone):
    for many, one in zip(together, alone, strict=True):
        assert (many.name, many.server, many.arguments) == (one.name, one.server, one.arguments)
        assert many.abstained == one.abstained
        assert [tool for tool, _ in many.candidates] == [tool for tool, _ in one.candidates]
        assert [p for _, p in many.candidates] == pytest.approx([p for _, p in one.candidates], rel=1e-3)
        for name in one.usage.stages:
            assert many.usage.stages[name].adapter == one.usage.stages[name].adapter
            assert many.usage.stages[name].forced_tokens == one.usage.stages[name].forced_tokens


@pytest.mark.parametrize(("kind", "card"), [*((kind, "none") for kind in tiny.KINDS), ("llama", "parameters")])
def test_many_calls_are_those_of_one_by_one(kind, card):
    dualtune = engine(kind=kind, card=card)
    options = {"top_k": 2, "max_tokens": 60}
    together = dualtune.call_many(REQUESTS, TOOLS, **options)
    assert dualtune.base.bank.active is None
    dualtune.prefixes.clear()
    assert_same(together, [dualtune.call(request, TOOLS, **options) for request in REQUESTS])


@pytest.mark.parametrize(
    ("activation", "grounding", "temperature"),
    [
        ("invocation", "off", 0.0),
        ("turn", "data", 1.0),
        ("turn", "auto", 0.0),
        ("all", "auto", 1.0),
        ("all", "off", 0.0),
    ],
)
@pytest.mark.parametrize("card", ARGUMENT_CARDS)
def test_every_request_is_written_under_its_own_adapter(activation, grounding, temperature, card):
    base, renderer, adapters = parts(activation=activation, dora=True, card=card)
    pipeline = CallPipeline(base, renderer, StageRegistry.from_adapters(base, adapters, GROUNDED))
    decoding = Decoding(max_tokens=200, grounding=grounding, temperature=temperature, seed=3)
    tools = [TOOLS[number % 3] for number in range(len(REQUESTS))]
    messages = [as_messages(request) for request in REQUESTS]
    asked = [CallRequest(said, tuple(TOOLS), decoding) for said in messages]
    tasks = [pipeline.prepare_arguments(one, tool) for one, tool in zip(asked, tools, strict=True)]
    alone = [run_to_end(pipeline.write(task, decoding)) for task in tasks]
    pipeline.runner.prefixes.clear()
    together = write_batch(pipeline, tasks, decoding)
    assert [ran.value for ran in together] == [ran.value for ran in alone]
    assert [ran.usage.adapter for ran in together] == [ran.usage.adapter for ran in alone]
    assert len({ran.usage.adapter for ran in together}) == 3


def test_together_takes_fewer_passes(monkeypatch):
    dualtune, passes = engine(), []
    hidden = engine_module.BaseModel.hidden
    monkeypatch.setattr(
        engine_module.BaseModel, "hidden", lambda self, *given: passes.append(len(given[0])) or hidden(self, *given)
    )
    dualtune.call("first, the tools", TOOLS, max_tokens=60)
    passes.clear()
    for request in REQUESTS:
        dualtune.call(request, TOOLS, max_tokens=60, draft=False)
    alone = len(passes)
    dualtune.prefixes.clear()
    dualtune.call("first, the tools", TOOLS, max_tokens=60)
    passes.clear()
    dualtune.call_many(REQUESTS, TOOLS, max_tokens=60)
    assert len(passes) < alone / 2
    assert max(passes) >= len(REQUESTS)


def test_more_than_fit_into_one_pass(monkeypatch):
    dualtune = engine()
    monkeypatch.setattr(batch_module, "BATCH_SIZE", 3)
    assert_same(
        dualtune.call_many(REQUESTS, TOOLS, max_tokens=60),
        [dualtune.call(request, TOOLS, max_tokens=60) for request in REQUESTS],
    )


def test_who_abstains_writes_nothing():
    dualtune = engine()
    calls = dualtune.call_many(REQUESTS[:3], TOOLS, abstain=1.0)
    assert [call.abstained for call in calls] == [True, True, True]
    assert all(set(call.usage.stages) == {"selector"} for call in calls)


def test_no_requests_are_no_calls():
    assert engine().call_many([], TOOLS) == []


def test_without_tools_there_is_nothing_to_choose_from():
    with pytest.raises(UsageError, match="no tools to choose from"):
        engine().call_many(REQUESTS[:2], [])


@pytest.mark.parametrize("options", [{"top_k": 0}, {"abstain": 2.0}, {"temperature": -1.0}])
def test_a_wrong_option_is_refused(options):
    with pytest.raises(UsageError, match="out of range"):
        engine().call_many(REQUESTS, TOOLS, **options)


def test_a_spent_budget_is_an_error_and_leaves_the_base_bare():
    dualtune = engine(seed=7)
    before = dualtune.select("show a.txt", TOOLS)
    with pytest.raises(DecodingError, match="token budget"):
        dualtune.call_many(REQUESTS, TOOLS, max_tokens=3)
    assert dualtune.base.bank.active is None
    assert dualtune.select("show a.txt", TOOLS) == before, "no update stayed active"


def test_a_request_that_is_too_long_is_refused_before_anything_is_computed():
    dualtune = engine(max_position_embeddings=2000)
    with pytest.raises(PromptError, match="longer than the model's context"):
        dualtune.call_many(["short", "long " * 1000], TOOLS)
