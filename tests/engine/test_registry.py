"""Engines from parts: which adapter serves a stage and a tool, who keeps it resident, and what is refused."""

from __future__ import annotations

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine.registry import StageRegistry
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.errors import AdapterError, BundleError, UsageError
from dualtune_mlx.prompts import PromptRenderer, Template
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.engine.engines import PATH

TOOLS = [Tool("read", "Read.", PATH, "fs"), Tool("list", "List.", PATH, "fs"), Tool("read", "Read.", PATH, "web")]
KEYS = [("selector", ""), ("arguments", "fs/read"), ("arguments", "fs"), ("arguments", "")]


@pytest.fixture
def base():
    return tiny.model()


@pytest.fixture
def adapters(base):
    return {key: adapter_for(base.bank, seed, "turn") for seed, key in enumerate(KEYS, 1)}


def engine(base, adapters=None, **options) -> DualTune:
    return DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer), adapters, **options)


def test_the_narrowest_scope_serves(base, adapters):
    dualtune = engine(base, adapters)
    served = [dualtune.stage("arguments", tool).adapter.content_hash for tool in TOOLS]
    assert served == [adapters["arguments", scope].content_hash for scope in ("fs/read", "fs", "")]
    assert dualtune.stage("arguments", TOOLS[0]).adapter_name == "arguments/fs/read"
    assert dualtune.stage("selector").adapter.content_hash == adapters["selector", ""].content_hash
    assert dualtune.stage("router") == Stage("router"), "the base model's own"
    assert list(dualtune.stages) == KEYS


def test_a_tool_without_a_server_may_have_its_own(base):
    tool, adapter = Tool("now", "Time.", PATH), adapter_for(base.bank, 1, "turn")
    dualtune = engine(base, {("arguments", "/now"): adapter})
    assert dualtune.stage("arguments", tool).adapter.content_hash == adapter.content_hash
    assert dualtune.stage("arguments", Tool("then")).adapter is None


def test_parts_and_the_bundle_made_of_them_call_alike(base, adapters, tmp_path):
    bundle = Bundle(tmp_path / "b", base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    for (stage, scope), adapter in adapters.items():
        bundle = bundle.add_adapter(stage, scope, adapter, training={}, tools=TOOLS)
    from_parts, loaded = engine(base, adapters), DualTune.load(bundle.folder, model=base)
    for tool in TOOLS:
        given = from_parts.arguments("show a", tool, TOOLS, max_tokens=64)
        assert given == loaded.arguments("show a", tool, TOOLS, max_tokens=64)
    expected = {(tool.server, tool.name): p for tool, p in loaded.select("show a", TOOLS)}
    assert {(tool.server, tool.name): p for tool, p in from_parts.select("show a", TOOLS)} == pytest.approx(expected)
    assert list(loaded.stages) == list(from_parts.stages)
    assert (from_parts.bundle, loaded.bundle) == (None, bundle)


def test_a_router_among_the_parts_makes_a_hierarchy_and_a_planner_divides(base):
    adapter = adapter_for(base.bank, 1, "turn")
    plain, routed = engine(base), engine(base, {("router", ""): adapter})
    assert (plain.tree(TOOLS).routes, routed.tree(TOOLS).routes) == (False, True)
    assert "router" in routed.call("show a", TOOLS, max_tokens=64).usage.stages
    assert (plain.divides, engine(base, {("planner", ""): adapter}).divides) == (False, True)
    assert not engine(base, {("router", ""): adapter}, routing="never").tree(TOOLS).routes


def test_a_closed_engine_gives_its_adapters_back(base, adapters):
    with engine(base, adapters) as dualtune:
        assert len(base.bank.resident) == len(adapters)
        dualtune.call("show a", TOOLS, max_tokens=64)
    assert base.bank.resident == ()


def test_where_one_adapter_does_not_fit_none_stays(base, adapters):
    other = adapter_for(tiny.model(layers=3).bank, 1, "turn")
    with pytest.raises(AdapterError, match="does not fit"):
        engine(base, {**adapters, ("router", ""): other})
    assert base.bank.resident == ()


def test_where_one_adapter_of_a_bundle_is_damaged_none_stays(base, adapters, tmp_path):
    bundle = Bundle(tmp_path / "b", base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    for stage, scope in KEYS[:2]:
        bundle = bundle.add_adapter(stage, scope, adapters[stage, scope], training={}, tools=TOOLS)
    adapters["selector", ""].save(bundle.folder / bundle.stages["arguments", "fs/read"].path)
    with pytest.raises(BundleError, match="not the one"):
        StageRegistry.from_bundle(base, bundle)
    assert base.bank.resident == ()


@pytest.mark.parametrize("key", [("select", ""), ("answer", ""), ("selector", "fs"), ("planner", "fs/read")])
def test_an_adapter_that_no_call_would_use_is_refused(base, key):
    with pytest.raises(UsageError, match="stage that there is not(?s:.*)selector, arguments"):
        engine(base, {key: adapter_for(base.bank, 1)})
    assert base.bank.resident == ()


def test_adapters_beside_a_bundle_are_refused(base, adapters, tmp_path):
    bundle = Bundle(tmp_path, base.name, base.fingerprint, "chatml", Template("chatml").hash, "signature")
    with pytest.raises(UsageError, match="beside a bundle"):
        engine(base, adapters, bundle=bundle)
    with pytest.raises(UsageError, match="beside a bundle"):
        engine(base, grounding={"fs/read": {"path": ()}}, bundle=bundle)


def test_an_engine_of_parts_is_made_between_two_calls(base, adapters):
    events = engine(base).stream("show a", TOOLS)
    next(events)
    with pytest.raises(UsageError, match="in use by a stream of this same thread"):
        engine(base, adapters)
    assert engine(base).routing == "auto", "without adapters nothing of the base changes"
    events.close()
    engine(base, adapters).close()
