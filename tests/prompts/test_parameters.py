"""Parameters in prompts: the typed card of a tool, and the card before its arguments."""

from __future__ import annotations

import pytest

from dualtune_mlx import Tool, ToolCall
from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import TEMPLATES, PromptRenderer, Template
from dualtune_mlx.prompts.cards import tool_card
from dualtune_mlx.prompts.parameters import CARD_LIMIT, VALUES_LIMIT, argument_card, typed_parameters
from dualtune_mlx.tools import PLAN, RESPOND, Message, as_messages
from tests import tiny
from tests.prompts.conversations import PLACES, with_text
from tests.prompts.test_control_tokens import attacks, controls_in

STRING = {"type": "string"}
DATE = {"type": "string", "format": "date"}
REMIND = Tool(
    "remind",
    "Set a reminder. It rings.",
    {
        "properties": {
            "text": {**STRING, "description": "What to say. In words."},
            "due": DATE,
            "tone": {"enum": ["soft", "loud", None]},
            "kind": {"const": "bell"},
            "tags": {"type": "array", "items": STRING},
            "zone": {"anyOf": [STRING, {"type": "null"}]},
            "count": {"type": ["integer", "string"]},
            "with": {"type": "array", "items": {"$ref": "#/$defs/person"}},
            "more": {},
        },
        "required": ["text", "due"],
        "$defs": {"person": {"type": "object", "properties": {"name": STRING}, "required": ["name"]}},
    },
)
TYPED = (
    'text: string, due: date, tone?: "soft"|"loud"|null, kind?: "bell", tags?: [string], zone?: string|null, '
    "count?: integer|string, with?: array, more?: any"
)
CARD = """text: string. What to say.
due: date
tone?: "soft"|"loud"|null
kind?: "bell"
tags?: [string]
zone?: string|null
count?: integer|string
with?: array
with[]: object
with[].name: string
more?: any
"""
TODAY = "Today: Monday, 2026-11-30\n"


def test_both_cards_say_what_a_parameter_may_be():
    assert tool_card(REMIND, "remind", "typed") == f"remind({TYPED}): Set a reminder."
    assert argument_card(REMIND) == CARD
    assert argument_card(REMIND, "2026-11-30") == CARD + TODAY


def test_a_date_is_told_only_where_the_tool_takes_one():
    tool = Tool("t", "", {"properties": {"path": STRING}})
    assert argument_card(tool, "2026-11-30") == "path?: string\n"
    assert argument_card(Tool("now"), "2026-11-30") == ""


def test_a_card_has_a_line_for_each_parameter_whatever_is_written_in_it():
    names = {"a\nToday: Friday": {**STRING, "description": "b\u2028c"}, "due": DATE}
    card = argument_card(Tool("t", "", {"properties": names}), "2026-11-30")
    assert card.splitlines() == ["a Today: Friday?: string. b c", "due?: date", TODAY.strip()]


def test_long_lists_are_cut_and_say_so():
    many = Tool("t", "", {"properties": {"a": {"enum": [f"value {i}" for i in range(999)]}}})
    assert len(typed_parameters(many)) < VALUES_LIMIT + 20
    assert typed_parameters(many).endswith('"|…')
    wide = Tool("t", "", {"properties": {**{f"p{i}": STRING for i in range(999)}, "due": DATE}})
    assert len(argument_card(wide)) < CARD_LIMIT + 10
    assert argument_card(wide).endswith("\n…\n")


@pytest.fixture(params=TEMPLATES)
def renderers(request) -> tuple[PromptRenderer, PromptRenderer]:
    tokenizer = tiny.tokenizer()
    template = Template(request.param)
    return PromptRenderer(template, tokenizer), PromptRenderer(template, tokenizer, argument_card="parameters")


CALL = ToolCall("remind", {"text": "go", "due": "2026-12-01"})
PAST = Message("assistant", "", (ToolCall("remind", {"text": "a", "due": "2026-01-01"}),))
MESSAGES = (*as_messages("remind me"), PAST, *as_messages("and again"))


def test_the_card_stands_before_the_arguments_and_changes_nothing_else(renderers):
    plain, carded = (one.render(MESSAGES, [REMIND], CALL, today="2026-11-30") for one in renderers)
    card = carded.last_span("parameters")
    text = renderers[1].encoder.decode(list(carded.span_tokens("parameters")))
    assert text.removeprefix("\n") == CARD + TODAY
    assert text.startswith("\n") == (renderers[0].template.name in ("hermes", "llama3"))
    assert card.end == carded.last_span("arguments").start
    assert carded.tokens[: card.start] + carded.tokens[card.end :] == plain.tokens
    for name in ("prefix", "user", "assistant", "invocation", "selector"):
        assert carded.last_span(name) == plain.last_span(name)
    assert carded.span_tokens("arguments") == plain.span_tokens("arguments")


def test_what_inference_reads_is_a_prefix_of_what_training_reads(renderers):
    _, renderer = renderers
    training = renderer.render(MESSAGES, [REMIND], CALL, today="2026-11-30")
    for stage, call in (("selector", ToolCall(RESPOND.name)), ("arguments", ToolCall("remind"))):
        inference = renderer.render(MESSAGES, [REMIND], call, today="2026-11-30")
        start = training.last_span(stage).start
        assert inference.tokens[:start] == training.tokens[:start]


def test_a_choice_an_answer_and_a_plan_have_no_card(renderers):
    plain, carded = renderers
    now = Tool("now")
    for tool, shown in ((RESPOND, REMIND), (PLAN, PLAN), (now, now)):
        streams = [one.render(MESSAGES, [REMIND, PLAN, now], ToolCall(tool.name), [shown]) for one in (plain, carded)]
        assert streams[0] == streams[1]


@pytest.mark.parametrize("place", [place for place in PLACES if place != "name"])
def test_no_text_in_a_card_becomes_a_control_token(renderers, place):
    _, renderer = renderers
    harmless = controls_in(renderer, renderer.render(**with_text(place, "harmless")).tokens)
    for attack in attacks(tiny.SPECIAL + tiny.PLAIN_ADDED):
        assert controls_in(renderer, renderer.render(**with_text(place, attack)).tokens) == harmless


@pytest.mark.parametrize("place", [place for place in PLACES if place != "name"])
def test_no_text_on_a_sheet_becomes_a_control_token(renderers, place):
    renderer = PromptRenderer(renderers[0].template, tiny.tokenizer(), argument_card="prefix")
    harmless = controls_in(renderer, renderer.render_arguments(**with_text(place, "harmless")).tokens)
    for attack in attacks(tiny.SPECIAL + tiny.PLAIN_ADDED):
        assert controls_in(renderer, renderer.render_arguments(**with_text(place, attack)).tokens) == harmless


def test_with_the_card_prefix_the_called_tool_stands_alone_before_the_conversation(renderers):
    plain, _ = renderers
    renderer = PromptRenderer(plain.template, tiny.tokenizer(), argument_card="prefix")
    other = Tool("forget", "Drop a reminder.")
    stream = renderer.render_arguments(MESSAGES, [REMIND, other], CALL, today="2026-11-30")
    before = plain.render(MESSAGES, [REMIND, other], CALL)
    prefix = renderer.encoder.decode(list(stream.span_tokens("prefix")))
    assert "forget" not in prefix and RESPOND.description not in prefix
    assert all(line in prefix for line in CARD.splitlines())
    today = stream.last_span("parameters")
    assert renderer.encoder.decode(list(stream.span_tokens("parameters"))).lstrip("\n") == TODAY
    rest, start = before.last_span("prefix").end, stream.last_span("prefix").end
    assert stream.tokens[start : today.start] + stream.tokens[today.end :] == before.tokens[rest:]
    training = stream.tokens[: stream.last_span("arguments").start]
    asked = renderer.render_arguments(MESSAGES, [REMIND, other], ToolCall("remind"), today="2026-11-30")
    assert asked.tokens[: len(training)] == training


def test_with_the_card_prefix_a_choice_is_rendered_as_without(renderers):
    plain, _ = renderers
    renderer = PromptRenderer(plain.template, tiny.tokenizer(), argument_card="prefix")
    for call in (ToolCall(RESPOND.name), CALL):
        assert renderer.render(MESSAGES, [REMIND], call) == plain.render(MESSAGES, [REMIND], call)
    assert renderer.render_arguments(MESSAGES, [REMIND], ToolCall(RESPOND.name)) == plain.render(
        MESSAGES, [REMIND], ToolCall(RESPOND.name)
    )


def test_a_template_is_checked_with_its_cards(renderers):
    renderers[1].check_stage("arguments", [REMIND])


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(PromptError, match="long(?s:.*)none, parameters"):
        PromptRenderer(Template("chatml"), tiny.tokenizer(), argument_card="long")
