"""The two-stage call on a tiny model: exact probabilities, valid arguments, and what is computed twice (nothing)."""

import math

import mlx.core as mx
import pytest

from dualtune_mlx import DualTune, Tool, ToolCall
from dualtune_mlx.prompts import Prompt, Template
from dualtune_mlx.tools import RESPOND, as_messages
from tests import tiny

PATH = {"type": "object", "properties": {"path": {"type": "string", "maxLength": 6}}, "required": ["path"]}
TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH), Tool("now", "Time.")]


@pytest.fixture
def dualtune():
    base = tiny.model()
    return DualTune(base, Prompt(Template("chatml"), base.tokenizer))


def brute_force(dualtune, messages, tools):
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
            logits = base.model(mx.array([[*before, *tokens[:i]]]))[0, -1]
            kept = logits[mx.array(allowed)]
            log_probability += (logits[token] - mx.logsumexp(kept)).item()
        probabilities[name] = math.exp(log_probability)
    return probabilities


def test_the_probabilities_are_exact(dualtune):
    ranked = dualtune.select("show a.txt", TOOLS, top_k=10)
    expected = brute_force(dualtune, "show a.txt", TOOLS)
    assert {tool.name: p for tool, p in ranked} == pytest.approx(expected, rel=1e-4)
    assert sum(p for _, p in ranked) == pytest.approx(1.0)
    assert [p for _, p in ranked] == sorted(expected.values(), reverse=True)


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


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_a_switch_computes_nothing_before_the_activation_point(dualtune, activation):
    from dataclasses import replace

    from dualtune_mlx.stage import Stage

    bank = dualtune.base.bank
    for seed, name in enumerate(("selector", "arguments")):
        adapter = bank.load(bank.new_adapter(4, 2.0, activation, seed))
        for tool in TOOLS:
            dualtune._stages[(name, f"{tool.server}/{tool.name}" if name == "arguments" else "")] = Stage(
                name, adapter, name
            )
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    call = dualtune.call("show a.txt", tools, max_tokens=64)
    while call.name == "respond":
        pytest.skip("this seed answers in words")
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


def test_a_tool_without_parameters_costs_no_second_stage(dualtune):
    call = dualtune.call("what time is it", [Tool("now", "Time.")])
    assert call.arguments == {}
    assert list(call.usage.stages) == ["selector"]
