"""The two-stage call on a tiny model: exact probabilities, valid arguments, and what is computed twice (nothing)."""

import math
from dataclasses import replace

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from dualtune_mlx import DualTune, Tool, ToolCall
from dualtune_mlx.prompts import Prompt, Template
from dualtune_mlx.stage import Stage
from dualtune_mlx.tools import RESPOND, as_messages
from tests import tiny
from tests.adapters.adapters import adapter_for

PATH = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 6}}, "required": ["path"]}
TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH), Tool("now", "Time.")]


@pytest.fixture
def dualtune():
    base = tiny.model()
    return DualTune(base, Prompt(Template("chatml"), base.tokenizer))


def brute_force(dualtune, messages, tools, logits_after=None):
    """Every name's probability, token by token among the allowed ones, each from a full forward pass."""
    prompt, base = dualtune.prompt, dualtune.base
    names = {t.name: prompt.call(ToolCall(t.name), tools).within("selector") for t in [*tools, RESPOND]}
    stream = prompt.stream(as_messages(messages), tools, ToolCall("respond"))
    before = stream.tokens[: stream.last("selector").start]
    probabilities = {}
    for name, tokens in names.items():
        log_probability = 0.0
        for i, token in enumerate(tokens):
            allowed = sorted({other[i] for other in names.values() if other[:i] == tokens[:i]})
            path = [*before, *tokens[:i]]
            logits = logits_after(path) if logits_after else base.model(mx.array([path]))[0, -1]
            kept = logits[mx.array(allowed)]
            log_probability += (logits[token] - mx.logsumexp(kept)).item()
        probabilities[name] = math.exp(log_probability)
    return probabilities


def test_the_probabilities_are_exact(dualtune):
    ranked = dualtune.select("show a.txt", TOOLS, top_k=10)
    expected = brute_force(dualtune, "show a.txt", TOOLS)
    assert {tool.name: p for tool, p in ranked} == pytest.approx(expected, rel=1e-4)
    assert sum(p for _, p in ranked) == pytest.approx(1.0)
    assert [p for _, p in ranked] == pytest.approx(sorted(expected.values(), reverse=True), rel=1e-4)
    assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)


def test_a_call_is_the_most_probable_tool_with_valid_arguments(dualtune):
    call = dualtune.call("show a.txt", TOOLS, max_tokens=64)
    best, probability = dualtune.select("show a.txt", TOOLS, top_k=1)[0]
    assert (call.name, call.confidence) == (best.name, pytest.approx(probability))
    if best.takes_arguments:
        assert set(call.arguments) == {"path"}


def test_arguments_equal_a_plain_masked_greedy_decoding(dualtune):
    from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer

    grammar = ArgumentGrammar(TOOLS[0], GrammarTokenizer(dualtune.base.tokenizer))
    stream = dualtune.prompt.stream(as_messages("show a.txt"), TOOLS, ToolCall("read_file"))
    tokens = list(stream.tokens[: stream.last("arguments").start])
    written = []
    while not grammar.complete:
        forced = grammar.forced()
        if not forced:
            logits = dualtune.base.model(mx.array([tokens + written]))[0, -1]
            allowed = mx.array(grammar.allowed(logits.shape[-1]))
            forced = [int(mx.argmax(mx.where(allowed, logits, -mx.inf)).item())]
            grammar.append(forced)
        written += forced
    assert dualtune.arguments("show a.txt", TOOLS[0], TOOLS) == grammar.value(written)


def with_adapters(dualtune, activation, tools):
    """Give both stages an adapter of their own."""
    bank = dualtune.base.bank
    for seed, name in enumerate(("selector", "arguments"), 1):
        stage = Stage(name, bank.load(adapter_for(bank, seed, activation)), name)
        for tool in tools:
            dualtune._stages[(name, f"{tool.server}/{tool.name}" if name == "arguments" else "")] = stage


def choosing_a_tool(activation, tools):
    """An engine with adapters whose random weights choose a tool, so that there is a second stage."""
    for seed in range(20):
        base = tiny.model(seed)
        dualtune = DualTune(base, Prompt(Template("chatml"), base.tokenizer))
        with_adapters(dualtune, activation, tools)
        if dualtune.select("show a.txt", tools, top_k=1)[0][0] is not RESPOND:
            dualtune._runner.prefixes.clear()
            base.bank.activate(None)
            return dualtune
    raise AssertionError("no seed chooses a tool")


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_a_switch_computes_nothing_before_the_activation_point(activation):
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    dualtune = choosing_a_tool(activation, tools)
    call = dualtune.call("show a.txt", tools, max_tokens=64)
    assert not call.is_respond
    first, second = call.usage.stages["selector"], call.usage.stages["arguments"]
    if activation == "all":
        assert (first.reused_tokens, second.reused_tokens) == (0, 0)
    else:
        assert first.prefilled_tokens > 0
        assert second.prefilled_tokens == 0
        assert second.reused_tokens == first.prefilled_tokens
    assert second.switches == 1
    again = dualtune.call("show a.txt", tools, max_tokens=64)
    assert again.usage.prefilled_tokens == 0
    assert (again.name, again.arguments) == (call.name, call.arguments)


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_an_adapter_acts_from_its_activation_point_and_nowhere_before(dualtune, activation):
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    without = dualtune.select("show a.txt", tools, top_k=10)
    with_adapters(dualtune, activation, tools)
    base, bank = dualtune.base, dualtune.base.bank

    def logits(tokens, begins):
        """The logits after all tokens, from scratch: the base model's up to ``begins``, then the adapter's."""
        caches = make_prompt_cache(base.model)
        with bank.placed({}):
            base.prefill(tokens[:begins], caches)
        with bank.placed(dualtune._stages[("selector", "")].adapter.layers):
            return base.head(base.hidden(mx.array([tokens[begins:]]), caches)[0, -1])

    stream = dualtune.prompt.stream(as_messages("show a.txt"), tools, ToolCall("respond"))
    expected = brute_force(dualtune, "show a.txt", tools, lambda tokens: logits(tokens, stream.activation(activation)))
    ranked = dualtune.select("show a.txt", tools, top_k=10)
    assert {tool.name: p for tool, p in ranked} == pytest.approx(expected, rel=1e-4)
    assert {tool.name: p for tool, p in ranked} != pytest.approx({t.name: p for t, p in without}, rel=1e-2)


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_a_stage_never_sees_another_adapter_s_keys(activation):
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    dualtune = choosing_a_tool(activation, tools)
    call = dualtune.call("show a.txt", tools, max_tokens=64)
    again = dualtune.select("show a.txt", tools, top_k=1)
    dualtune._runner.prefixes.clear()
    tool = next(tool for tool in tools if tool.name == call.name)
    assert dualtune.arguments("show a.txt", tool, tools, max_tokens=64) == call.arguments
    dualtune._runner.prefixes.clear()
    assert dualtune.select("show a.txt", tools, top_k=1) == again


def test_a_tool_without_parameters_costs_no_second_stage(dualtune):
    call = dualtune.call("what time is it", [Tool("now", "Time.")])
    assert call.arguments == {}
    assert list(call.usage.stages) == ["selector"]
