"""The token loop: drafts change the passes and nothing else; draws obey the masks, and their seed decides them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import get_type_hints

import mlx.core as mx
import pytest
from jsonschema import Draft202012Validator

from dualtune_mlx import Tool
from dualtune_mlx.decoding import (
    ArgumentGrammar,
    ArgumentWriter,
    DecodeStep,
    Decoding,
    DecodingOptions,
    DraftBuffer,
    GrammarTokenizer,
    write_arguments,
)
from dualtune_mlx.decoding.writing import sample_token
from dualtune_mlx.engine.events import run_to_end
from dualtune_mlx.engine.pipeline import CallPipeline, CallRequest
from dualtune_mlx.engine.registry import StageRegistry
from dualtune_mlx.errors import DecodingError, UsageError
from dualtune_mlx.tools import as_messages
from dualtune_mlx.tools.usage import StageUsage
from tests import tiny
from tests.decoding.test_grammar import SCHEMAS, schema

REQUEST = 'Put "abcabcabc" and 12121212 into notes/abc.txt, true true null, then abcabc again'
BUDGET = 120
"""Tokens: enough for all but the integers without bounds, whose digits a tiny model never ends."""
SAMPLED = Decoding(temperature=1.5, seed=3, max_tokens=BUDGET)


class Model:
    """Stands in for a model: its logits are the sum of all tokens and how many there are. Keeps what it was given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.passes: list[int] = []

    def extend(self, tokens: Sequence[int], last: int) -> mx.array:
        assert 1 <= last <= len(tokens)
        self.tokens += tokens
        self.passes.append(len(tokens))
        lengths = range(len(self.tokens) - last + 1, len(self.tokens) + 1)
        return mx.array([[float(sum(self.tokens[:n])), float(n)] for n in lengths])

    def take_back(self, count: int) -> None:
        assert 0 < count <= self.passes[-1]
        del self.tokens[-count:]


@pytest.mark.parametrize("seed", range(50))
def test_a_buffer_gives_the_logits_of_what_was_appended_whatever_was_drafted(seed):
    generator = random.Random(seed)

    def some(least: int = 0) -> list[int]:
        return [generator.randrange(2) for _ in range(generator.randrange(least, 5))]

    model, tokens = Model(), some(1) or [0]
    buffer = DraftBuffer(tokens, model.extend, model.take_back, some)
    asked = 0
    for _ in range(30):
        if generator.random() < 0.7:
            assert buffer.logits().tolist() == [sum(tokens), len(tokens)]
            asked += 1
        more = some()
        buffer.append(more)
        tokens = tokens + more
    assert asked > 5
    assert len(model.passes) <= asked


def test_a_right_draft_saves_passes_and_a_wrong_one_costs_none():
    model = Model()
    drafts = iter([[1, 2, 3], [7], []])
    buffer = DraftBuffer([5, 5], model.extend, model.take_back, lambda: next(drafts))
    for token in (1, 2, 3):
        buffer.logits()
        buffer.append([token])
    buffer.logits()
    assert model.passes == [5], "all of the draft was right, and so is the question behind it"
    buffer.append([4])
    buffer.logits()
    buffer.append([8, 9])
    assert buffer.logits().tolist() == [5 + 5 + 1 + 2 + 3 + 4 + 8 + 9, 8]
    assert model.passes == [5, 2, 2]
    assert model.tokens == [5, 5, 1, 2, 3, 4, 8, 9]


def test_forced_tokens_go_with_the_next_pass_and_the_last_ones_with_none():
    model = Model()
    buffer = DraftBuffer([5], model.extend, model.take_back)
    buffer.append([1, 2])
    buffer.append([3])
    buffer.logits()
    buffer.append([4])
    buffer.append([6])
    assert model.passes == [4]


@cache
def engine(seed: int = 0, card: str = "none") -> CallPipeline:
    """One for all tests: what is written leaves nothing behind but the prefix."""
    base = tiny.model(seed)
    return CallPipeline(base, tiny.renderer(base, card), StageRegistry(base))


def outcome(pipeline: CallPipeline, parameters: dict, decoding: Decoding) -> tuple[object, StageUsage | None]:
    """The arguments of a tool and what they cost; or all that was written when the token budget ended."""
    tool, events = Tool("t", "", parameters), []
    writing = pipeline.write(
        pipeline.prepare_arguments(CallRequest(as_messages(REQUEST), (tool,), Decoding()), tool), decoding
    )
    try:
        while True:
            events.append(next(writing))
    except StopIteration as end:
        return end.value.value, end.value.usage
    except DecodingError as error:
        return (events, str(error)), None


def usages(parameters: dict, decoding: Decoding, models: Iterable[int], card: str = "none") -> tuple[int, int, int]:
    """Passes with and without drafts, and drafted tokens; what is written must be the same."""
    totals = Counter()
    for seed in models:
        pipeline = engine(seed, card)
        plain, alone = outcome(pipeline, parameters, replace(decoding, draft=False))
        drafted, together = outcome(pipeline, parameters, replace(decoding, draft=True))
        assert drafted == plain
        if alone is None or together is None:
            continue
        assert alone.drafted_tokens == 0
        assert (together.decoded_tokens, together.forced_tokens) == (alone.decoded_tokens, alone.forced_tokens)
        assert together.forwards <= alone.forwards
        totals.update(plain=alone.forwards, drafted=together.forwards, tokens=together.drafted_tokens)
    return totals["plain"], totals["drafted"], totals["tokens"]


MODELS = pytest.mark.parametrize("models", [[0], pytest.param([1, 2], marks=pytest.mark.slow)], ids=["one", "others"])


@MODELS
@pytest.mark.parametrize("decoding", [Decoding(max_tokens=BUDGET), SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_drafts_change_nothing_that_is_written(name, decoding, models):
    usages(SCHEMAS[name], decoding, models)


@MODELS
@pytest.mark.parametrize("name", ["enum", "strings", "nested object"])
def test_drafts_change_nothing_behind_a_card_of_parameters(name, models):
    usages(SCHEMAS[name], SAMPLED, models, "parameters")


def test_drafts_save_passes():
    plain, drafted, tokens = usages(
        schema(a={"type": "string", "minLength": 20, "maxLength": 60}), Decoding(), range(6)
    )
    assert tokens > 0
    assert drafted < 0.8 * plain


@pytest.mark.parametrize("seeds", [[0, 1], pytest.param([2, 3], marks=pytest.mark.slow)], ids=["two", "others"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_sampled_arguments_fit_the_schema_and_their_seed_decides_them(name, seeds):
    pipeline = engine()
    values = []
    for seed in seeds:
        value, usage = outcome(pipeline, SCHEMAS[name], replace(SAMPLED, seed=seed))
        assert (value, None) == (outcome(pipeline, SCHEMAS[name], replace(SAMPLED, seed=seed))[0], None)
        if usage is not None:
            Draft202012Validator(SCHEMAS[name]).validate(value)
        values.append(value)
    if "strings" in name:
        assert len({str(value) for value in values}) > 1


def test_temperature_zero_takes_the_most_probable_and_ignores_the_seed():
    pipeline = engine()
    values = [outcome(pipeline, SCHEMAS["strings"], Decoding(seed=seed))[0] for seed in range(3)]
    assert values[0] == values[1] == values[2]
    logits = mx.array([0.0, 3.0, -mx.inf, 2.9])
    assert [sample_token(logits, 0.0, mx.random.key(i)) for i in range(5)] == [1] * 5
    assert [sample_token(logits, 1e-3, mx.random.key(i)) for i in range(5)] == [1] * 5


@pytest.mark.parametrize(("temperature", "shares"), [(1.0, [0.1, 0.3, 0.6]), (0.5, [1 / 46, 9 / 46, 36 / 46])])
def test_a_draw_is_from_the_allowed_tokens_in_their_proportions(temperature, shares):
    logits = mx.where(mx.array([True, False, True, True]), mx.log(mx.array([0.1, 100.0, 0.3, 0.6])), -mx.inf)
    counts = Counter(sample_token(logits, temperature, key) for key in mx.random.split(mx.random.key(0), 3000))
    assert set(counts) <= {0, 2, 3}
    assert [counts[token] / 3000 for token in (0, 2, 3)] == pytest.approx(shares, abs=0.03)


def test_a_host_s_random_numbers_stay_as_they_are():
    pipeline = engine()
    mx.random.seed(1)
    expected = mx.random.uniform(shape=(3,)).tolist()
    mx.random.seed(1)
    outcome(pipeline, SCHEMAS["strings"], SAMPLED)
    assert mx.random.uniform(shape=(3,)).tolist() == expected


def test_steps_come_one_by_one_with_their_probabilities():
    grammar = ArgumentGrammar(Tool("t", "", schema(a={"enum": ["x", "y"]})), GrammarTokenizer(tiny.tokenizer()))
    (x, y) = tiny.tokenizer().encode("xy", add_special_tokens=False)
    weights = mx.where(mx.arange(272) == x, mx.log(mx.array(3.0)), 0.0)  # 3 to 1 against y
    buffer = DraftBuffer([1], lambda tokens, last: weights[None], lambda count: None)
    steps = list(write_arguments(ArgumentWriter(grammar, Decoding()), buffer))
    assert [grammar.to_bytes(step.tokens) for step in steps] == [b'{"a": "', b"x", b'"}']
    assert [step.forced for step in steps] == [True, False, True]
    assert [step.probability for step in steps] == [1.0, pytest.approx(0.75), 1.0]
    assert DecodeStep((y,), mx.where(mx.arange(272) == x, -mx.inf, weights)).probability == pytest.approx(1 / 271)


def test_a_step_knows_what_share_of_the_model_s_probability_was_allowed():
    logits = mx.log(mx.array([0.1, 0.2, 0.3, 0.4]))
    masked = mx.where(mx.array([True, False, True, False]), logits, -mx.inf)
    step = DecodeStep((2,), masked, logits)
    assert step.allowed_share == pytest.approx(0.4)
    assert step.probability == pytest.approx(0.75)
    assert DecodeStep((2, 3)).allowed_share == 1.0


def test_the_share_is_that_of_the_unmasked_logits():
    pipeline, tool = engine(), Tool("t", "", SCHEMAS["enum"])
    request = pipeline.prepare_arguments(CallRequest(as_messages(REQUEST), (tool,), Decoding()), tool)
    grammar = pipeline.grammar(request, tool.parameters)
    chosen = [
        step for step in pipeline.runner.write(request.stage, request.stream, grammar, Decoding()) if not step.forced
    ]
    for step in chosen:
        shares = mx.softmax(step.unmasked.astype(mx.float32))
        allowed = mx.sum(mx.where(mx.isinf(step.logits), 0.0, shares)).item()
        assert step.allowed_share == pytest.approx(allowed, rel=1e-4)
        assert step.allowed_share < 1


@pytest.mark.parametrize("decoding", [Decoding(max_tokens=20), replace(SAMPLED, max_tokens=20)])
@pytest.mark.parametrize("draft", [True, False])
def test_a_spent_budget_is_an_error_and_no_broken_json(decoding, draft):
    long = schema(text={"type": "string", "minLength": 100})
    tool, pipeline = Tool("t", "", long), engine()
    with pytest.raises(DecodingError, match="token budget(?s:.*)tool 't'(?s:.*)at most 20"):
        run_to_end(
            pipeline.write(
                pipeline.prepare_arguments(CallRequest(as_messages(REQUEST), (tool,), Decoding()), tool),
                replace(decoding, draft=draft),
            )
        )


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_tokens", -1), ("temperature", -0.1), ("temperature", float("nan")), ("seed", -1), ("grounding", "on")],
)
def test_an_option_out_of_range_is_refused_by_name(option, value):
    with pytest.raises(UsageError, match=f"where: {option}(?s:.*)expected: "):
        Decoding(**{option: value})


def test_every_option_can_be_given_to_a_call():
    assert get_type_hints(Decoding) == get_type_hints(DecodingOptions)


def test_stopping_between_two_tokens_leaves_everything_usable():
    pipeline, tool = engine(), Tool("t", "", SCHEMAS["strings"])
    expected, _ = outcome(pipeline, SCHEMAS["strings"], Decoding())
    task = pipeline.prepare_arguments(CallRequest(as_messages(REQUEST), (tool,), Decoding()), tool)
    for count in range(1, 6):
        grammar = pipeline.grammar(task, tool.parameters)
        writing = pipeline.runner.write(task.stage, task.stream, grammar, Decoding())
        for _ in range(count):
            next(writing)
        writing.close()
        assert outcome(pipeline, SCHEMAS["strings"], Decoding())[0] == expected
