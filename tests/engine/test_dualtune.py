"""The two-stage call on a tiny model: exact probabilities, valid arguments, and what is computed twice (nothing)."""

import math
from dataclasses import replace
from datetime import date
from functools import partial

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from dualtune_mlx import DualTune, Tool, ToolCall
from dualtune_mlx.decoding import Decoding, choice
from dualtune_mlx.decoding.spans import find_spans
from dualtune_mlx.engine import attempts
from dualtune_mlx.engine.events import run_to_end
from dualtune_mlx.engine.pipeline import CallPipeline, CallRequest
from dualtune_mlx.engine.registry import StageRegistry
from dualtune_mlx.engine.stage import Stage, StageRunner
from dualtune_mlx.errors import UsageError
from dualtune_mlx.prompts import ARGUMENT_CARDS, PromptRenderer, Template
from dualtune_mlx.tools import RESPOND, Message, as_messages
from dualtune_mlx.tools.usage import StageUsage
from tests import tiny
from tests.engine.engines import PATH, WORDS, make_calling_engine, make_engine

TOOLS = [Tool("read_file", "Read.", PATH), Tool("read_dir", "List.", PATH), Tool("now", "Time.")]


@pytest.fixture(params=ARGUMENT_CARDS)
def dualtune(request):
    base = tiny.model()
    return DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer, argument_card=request.param))


def brute_force(dualtune, messages, tools, logits_after=None):
    """Every name's probability, token by token among the allowed ones, each from a full forward pass."""
    renderer, base = dualtune.renderer, dualtune.base
    names = {t.name: renderer.render_call(ToolCall(t.name), tools).span_tokens("selector") for t in [*tools, RESPOND]}
    stream = renderer.render(as_messages(messages), tools, ToolCall("respond"))
    before = stream.tokens[: stream.last_span("selector").start]
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


def test_arguments_of_a_map_are_written_and_those_of_a_tool_without_any_are_not(dualtune):
    flags = {"additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 1}
    written = dualtune.arguments("tag it", Tool("tag", parameters={"type": "object", **flags}), max_tokens=200)
    assert [type(value) for value in written.values()] == [bool]
    now = Tool("now", parameters={"type": "object", "properties": {}})
    assert dualtune.arguments("what time is it", now, max_tokens=1) == {}


def test_arguments_equal_a_plain_masked_greedy_decoding(dualtune):
    from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer

    grammar = ArgumentGrammar(TOOLS[0], GrammarTokenizer(dualtune.base.tokenizer))
    stream = dualtune.renderer.render(as_messages("show a.txt"), TOOLS, ToolCall("read_file"))
    tokens = list(stream.tokens[: stream.last_span("arguments").start])
    written = []
    while not grammar.complete:
        forced = grammar.append_forced()
        if not forced:
            logits = dualtune.base.model(mx.array([tokens + written]))[0, -1]
            allowed = mx.array(grammar.allowed_mask(logits.shape[-1]))
            forced = [int(mx.argmax(mx.where(allowed, logits, -mx.inf)).item())]
            grammar.append(forced)
        written += forced
    assert dualtune.arguments("show a.txt", TOOLS[0], TOOLS) == grammar.parse(written)


@pytest.mark.parametrize("card", ARGUMENT_CARDS)
@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_a_switch_computes_nothing_before_the_activation_point(activation, card):
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    dualtune = make_calling_engine(tools, activation, argument_card=card)
    call = dualtune.call("show a.txt", tools, max_tokens=64)
    assert not call.is_respond
    first, second = call.usage.stages["selector"], call.usage.stages["arguments"]
    if activation == "all":
        assert (first.reused_tokens, second.reused_tokens) == (0, 0)
    else:
        assert first.prefilled_tokens > 0
        if card == "prefix":  # that of the tool alone
            assert second.prefilled_tokens > 0
        else:
            assert (second.prefilled_tokens, second.reused_tokens) == (0, first.prefilled_tokens)
    assert second.switches == 1
    again = dualtune.call("show a.txt", tools, max_tokens=64)
    assert again.usage.prefilled_tokens == 0
    assert (again.name, again.arguments) == (call.name, call.arguments)


@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_an_adapter_acts_from_its_activation_point_and_nowhere_before(dualtune, activation):
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    without = dualtune.select("show a.txt", tools, top_k=10)
    base, bank = dualtune.base, dualtune.base.bank
    dualtune = make_engine(base, activation)

    def logits(tokens, begins):
        """The logits after all tokens, from scratch: the base model's up to ``begins``, then the adapter's."""
        caches = make_prompt_cache(base.model)
        with bank.overriding({}):
            base.prefill(tokens[:begins], caches)
        with bank.overriding(dualtune.stage("selector").adapter.layers):
            return base.head(base.hidden(mx.array([tokens[begins:]]), caches)[0, -1])

    stream = dualtune.renderer.render(as_messages("show a.txt"), tools, ToolCall("respond"))
    expected = brute_force(
        dualtune, "show a.txt", tools, lambda tokens: logits(tokens, stream.activation_start(activation))
    )
    ranked = dualtune.select("show a.txt", tools, top_k=10)
    assert {tool.name: p for tool, p in ranked} == pytest.approx(expected, rel=1e-4)
    assert {tool.name: p for tool, p in ranked} != pytest.approx({t.name: p for t, p in without}, rel=1e-2)


@pytest.mark.parametrize("card", ARGUMENT_CARDS)
@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_a_stage_never_sees_another_adapter_s_keys(activation, card):
    tools = [replace(tool, parameters=PATH) for tool in TOOLS]
    dualtune = make_calling_engine(tools, activation, argument_card=card)
    call = dualtune.call("show a.txt", tools, max_tokens=64)
    again = dualtune.select("show a.txt", tools, top_k=1)
    dualtune.prefixes.clear()
    tool = next(tool for tool in tools if tool.name == call.name)
    assert dualtune.arguments("show a.txt", tool, tools, max_tokens=64) == call.arguments
    dualtune.prefixes.clear()
    assert dualtune.select("show a.txt", tools, top_k=1) == again


def test_a_tool_without_parameters_costs_no_second_stage(dualtune):
    call = dualtune.call("what time is it", [Tool("now", "Time.")])
    assert call.arguments == {}
    assert list(call.usage.stages) == ["selector"]


def test_an_engine_that_abstains_gives_candidates_and_no_call(dualtune):
    ranked = dualtune.select("show a.txt", TOOLS, top_k=3)
    best = ranked[0][1]
    call = dualtune.call("show a.txt", TOOLS, top_k=3, abstain=best + 1e-3, max_tokens=64)
    assert call.abstained
    assert not call.is_respond
    assert (call.name, call.server, call.arguments) == ("", "", {})
    assert call.confidence == pytest.approx(best)
    assert [tool.name for tool, _ in call.candidates] == [tool.name for tool, _ in ranked]
    assert list(call.usage.stages) == ["selector"]
    made = dualtune.call("show a.txt", TOOLS, top_k=3, abstain=best - 1e-3, max_tokens=64)
    assert not made.abstained
    assert made.name == ranked[0][0].name
    assert not dualtune.call("show a.txt", TOOLS, max_tokens=64).abstained


DUE = {"properties": {"due": {"type": "string", "format": "date"}}, "required": ["due"]}
REMIND = Tool("remind", "Remind.", DUE)


class Calendar(date):
    """A date whose today never changes."""

    @classmethod
    def today(cls):
        return cls(2026, 11, 30)


@pytest.fixture
def rendered(monkeypatch):
    """The dates that streams of arguments are rendered with."""
    dates, render = [], PromptRenderer.render_arguments

    def keep_date(self, *args):
        dates.append(args[5])
        return render(self, *args)

    monkeypatch.setattr(PromptRenderer, "render_arguments", keep_date)
    return dates


def test_the_date_is_the_machine_s_unless_a_call_gives_another(monkeypatch, rendered):
    monkeypatch.setattr("dualtune_mlx.tools.today.date", Calendar)
    dualtune = make_calling_engine([REMIND], argument_card="parameters")
    for options in ({}, {"today": "2027-01-02"}, {"today": ""}):
        dualtune.call("tomorrow", [REMIND], **options)
        dualtune.call_many(["tomorrow"], [REMIND], **options)
        dualtune.arguments("tomorrow", REMIND, **options)
    assert [today for today in rendered if today] == ["2026-11-30"] * 3 + ["2027-01-02"] * 3


def test_the_arguments_are_written_with_the_date_in_view():
    base = tiny.model()
    dualtune = DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer, argument_card="parameters"))
    for today, line in (("2026-11-30", "Today: Monday, 2026-11-30"), ("", "")):
        request = CallRequest(as_messages("tomorrow"), (REMIND,), Decoding(), today=today)
        prepared = CallPipeline(base, dualtune.renderer, StageRegistry(base)).prepare_arguments(request, REMIND)
        text = dualtune.renderer.encoder.decode(list(prepared.stream.tokens))
        assert text.count("Today") == (1 if today else 0)
        assert line in text


def test_a_date_that_is_none_or_is_told_to_nobody_is_refused():
    carded, plain = (make_engine(tiny.model(), "turn", argument_card=card) for card in ("parameters", "none"))
    for wrong in ("tomorrow", "2026-11-31", "20261130", 5):
        with pytest.raises(UsageError, match="not one(?s:.*)today"):
            carded.call("tomorrow", [REMIND], today=wrong)
    for call in (plain.call, plain.arguments):
        with pytest.raises(UsageError, match="tell none(?s:.*)argument_card"):
            call("tomorrow", REMIND if call == plain.arguments else [REMIND], today="2026-11-30")
    assert plain.call("tomorrow", [REMIND], today="")


@pytest.mark.parametrize("abstain", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(dualtune, abstain):
    with pytest.raises(UsageError, match="where: abstain"):
        dualtune.call("show a.txt", TOOLS, abstain=abstain)


def test_a_call_may_change_the_engine_s_decoding_for_itself():
    free = {"type": "object", "properties": {"text": {"type": "string", "maxLength": 12}}, "required": ["text"]}
    (tool,) = tools = [Tool("say", "", free)]
    base = tiny.model()
    dualtune = DualTune(base, tiny.renderer(base), decoding=Decoding(temperature=2.0, seed=1))
    drawn = dualtune.arguments("say it", tool, tools)
    assert drawn == dualtune.arguments("say it", tool, tools, seed=1)
    assert drawn != dualtune.arguments("say it", tool, tools, seed=2)
    greedy = dualtune.arguments("say it", tool, tools, temperature=0.0)
    base = tiny.model()
    assert greedy == DualTune(base, tiny.renderer(base)).arguments("say it", tool, tools)
    assert dualtune.decoding == Decoding(temperature=2.0, seed=1)
    with pytest.raises(UsageError, match="warmth"):
        dualtune.arguments("say it", tool, tools, warmth=1.0)


def test_names_with_a_common_beginning_cost_one_pass(dualtune):
    """What all names begin with goes with the tokens before it; one name alone costs nothing."""
    stream = dualtune.renderer.render(as_messages("show a.txt"), TOOLS, ToolCall("respond"))
    runner, stage = StageRunner(dualtune.base), Stage("selector")
    before = len(stream.active_tokens("selector", "turn"))
    result = runner.choose(stage, stream, {"a": (1, 2, 3), "b": (1, 2, 4)}, 2)
    assert (result.usage.forwards, result.usage.active_tokens, result.usage.decoded_tokens) == (1, before + 2, 1)
    result = runner.choose(stage, stream, {"a": (1, 2, 3)}, 1)
    assert (result.usage.forwards, [item.probability for item in result.value]) == (0, [1.0])


def test_a_choice_computes_every_token_on_the_way_to_a_fork_once(dualtune):
    tools = [Tool(name, "", PATH) for name in ("list", "list_all", "list_all_of", "read_all", "read_any", "write")]
    stream = dualtune.renderer.render(as_messages("show a.txt"), tools, ToolCall("respond"))
    names = dualtune.renderer.name_tokens(tools)
    result = StageRunner(dualtune.base).choose(Stage("selector"), stream, names, len(names))
    inner = {tokens[:n] for tokens in names.values() for n in range(len(tokens))}
    forks = {path for path in inner if len({t[: len(path) + 1] for t in names.values() if t[: len(path)] == path}) > 1}
    nodes = {fork[:n] for fork in forks for n in range(1, len(fork) + 1)}
    assert result.usage.decoded_tokens == len(forks)
    assert result.usage.active_tokens == len(stream.active_tokens("selector", "turn")) + len(nodes)
    assert result.usage.forwards < result.usage.decoded_tokens
    expected = brute_force(dualtune, "show a.txt", tools)
    assert {item.name: item.probability for item in result.value} == pytest.approx(expected, rel=1e-4)


REAL = (
    "read_file read_text_file read_media_file read_multiple_files write_file edit_file create_directory "
    "list_directory list_directory_with_sizes directory_tree move_file search_files get_file_info "
    "list_allowed_directories git_status git_diff_unstaged git_diff_staged git_diff git_commit git_add git_reset "
    "git_log git_create_branch git_checkout git_show git_branch get_current_time convert_time"
)


@pytest.fixture(scope="module")
def real_choices():
    """A choice among real tools by each of several models."""
    tools, choices = [Tool(name, "", PATH) for name in REAL.split(" ")], []
    for seed in range(8):
        base = tiny.model(seed)
        renderer = PromptRenderer(Template("chatml"), base.tokenizer, "name")
        stream = renderer.render(as_messages("show a.txt"), tools, ToolCall("respond"))
        names = renderer.name_tokens(tools)
        choices.append(partial(StageRunner(base).choose, Stage("selector"), stream, names))
    return choices


@pytest.mark.parametrize(("top_k", "share"), [(3, 0.6), (5, 0.5), (29, 0.3)])
def test_a_choice_among_real_tools_costs_fewer_passes_than_one_a_fork(monkeypatch, real_choices, top_k, share):
    together = sum(choose(top_k).usage.forwards for choose in real_choices)
    monkeypatch.setattr(choice, "MAX_BATCH", 1)
    alone = sum(choose(top_k).usage.forwards for choose in real_choices)
    assert together <= share * alone


BOTH = {"s/t": {"a": (), "b": ()}}


def write_with(grounding: str) -> tuple[dict, StageUsage]:
    """What a tiny model draws for two strings that are grounded; its free texts are short and no spans."""
    base, tool = tiny.model(), Tool("t", "", WORDS, "s")
    renderer, registry = tiny.renderer(base), StageRegistry(base, grounding=BOTH)
    pipeline = CallPipeline(base, renderer, registry)
    decoding = Decoding(grounding=grounding, temperature=1.0, seed=4)
    result = run_to_end(
        pipeline.write(
            pipeline.prepare_arguments(CallRequest(as_messages("show one.txt"), (tool,), decoding), tool), decoding
        )
    )
    return result.value, result.usage


def find_grounded(value: dict) -> str:
    return "".join(name for name in value if value[name] in set(find_spans(as_messages("show one.txt"))))


def test_grounding_is_what_the_data_says_or_off():
    assert find_grounded(write_with("data")[0]) == "ab"
    assert find_grounded(write_with("off")[0]) == ""


@pytest.mark.parametrize("unsure", ["", "a", "b", "ab"])
def test_grounding_auto_holds_what_the_model_was_not_sure_of(monkeypatch, unsure):
    monkeypatch.setattr(attempts, "find_unsure_strings", lambda *_: set(unsure))
    value, usage = write_with("auto")
    free, alone = write_with("off")
    assert find_grounded(value) == unsure
    if unsure:
        assert usage.forwards > alone.forwards
        assert usage.decoded_tokens > alone.decoded_tokens
        assert usage.reused_tokens == usage.prefilled_tokens > 0, "the second time nothing is computed again"
    else:
        assert value == free
        assert replace(usage, seconds=0) == replace(alone, seconds=0)


@pytest.mark.parametrize(("sure", "expected"), [(0.5, "data"), (-1.0, "off")])
def test_the_model_s_own_probabilities_decide(monkeypatch, sure, expected):
    monkeypatch.setattr(attempts, "SURE", sure)
    assert write_with("auto")[0] == write_with(expected)[0]


def test_a_tool_that_is_called_respond_is_chosen_and_called_as_any_other():
    tools = [Tool("respond", "Write to a customer.", PATH, "mail"), Tool("now", "Time.", server="mail")]
    dualtune = make_calling_engine(tools)
    ranked = dualtune.select("show a.txt", tools, top_k=3)
    assert {(tool.server, tool.name) for tool, _ in ranked} == {("mail", "respond"), ("mail", "now"), ("", "respond")}
    assert sum(probability for _, probability in ranked) == pytest.approx(1.0)
    assert set(dualtune.arguments("show a.txt", tools[0])) == {"path"}
    made = ToolCall("respond", {"path": "a"}, "mail")
    history = [*as_messages("show a.txt"), Message("assistant", tool_calls=(made,)), Message("tool", "sent")]
    text = dualtune.renderer.encoder.decode(list(dualtune.renderer.render_conversation(history, tools).tokens))
    assert "mail/respond" in text.partition("show a.txt")[2]
