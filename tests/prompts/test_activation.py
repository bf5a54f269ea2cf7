"""Where an adapter begins to act, in every shape of conversation."""

from __future__ import annotations

import pytest

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import TEMPLATES, PromptRenderer, Span, Template, TokenStream
from dualtune_mlx.tools import Message, ToolCall
from tests import tiny
from tests.prompts.conversations import TOOLS

CALL = ToolCall("read_file", {"path": "a"})
USER, AGAIN = Message("user", "show a"), Message("user", "and b")
ANSWER, CALLED = Message("assistant", "here"), Message("assistant", "", (CALL,))
CALLED_TWICE = Message("assistant", "", (CALL, CALL))
RESULT, RESULT_2 = Message("tool", "one"), Message("tool", "two")

CONVERSATIONS = {
    "single turn": ([USER], 0),
    "with a system message": ([Message("system", "be brief"), USER], 1),
    "several turns": ([USER, ANSWER, AGAIN], 2),
    "a tool's result": ([USER, CALLED, RESULT], 2),
    "two results of parallel calls": ([USER, CALLED_TWICE, RESULT, RESULT_2], 2),
    "results of calls one after the other": ([USER, CALLED, RESULT, CALLED, RESULT_2], 4),
    "two results again": ([USER, CALLED, RESULT, CALLED_TWICE, RESULT, RESULT_2], 4),
    "two results and the first of two more calls": ([USER, CALLED_TWICE, RESULT, RESULT_2, CALLED], 2),
    "a request right after results": ([USER, CALLED_TWICE, RESULT, RESULT_2, AGAIN], 4),
    "two requests in a row": ([USER, AGAIN], 1),
    "the second of two parallel calls": ([USER, CALLED], 0),
    "a new request after a result": ([USER, CALLED, RESULT, ANSWER, AGAIN], 4),
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(("messages", "last"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_the_adapter_acts_from_the_last_message_or_from_the_invocation(messages, last, template):
    renderer = PromptRenderer(Template(template), tiny.tokenizer())
    stream = renderer.render(messages, TOOLS, CALL)
    before = [*messages[:last]]
    start = len(renderer.render_conversation(before, TOOLS)) if any(m.role == "user" for m in before) else None
    if start is None:  # nothing but the system message comes before
        start = stream.last_span("prefix").end
    assert stream.activation_start("all") == 0
    assert stream.activation_start("turn") == start
    assert stream.activation_start("invocation") == len(renderer.render_conversation(messages, TOOLS))
    for stage in ("selector", "arguments"):
        assert stream.active_tokens(stage, "turn") == stream.tokens[start : stream.last_span(stage).start]


def test_without_a_user_s_span_a_turn_is_the_invocation():
    stream = TokenStream(tuple(range(9)), (Span("prefix", 0, 4), Span("invocation", 4, 6), Span("selector", 6, 9)))
    assert stream.activation_start("turn") == 4


def test_a_message_after_the_invocation_is_not_the_turn():
    stream = TokenStream(tuple(range(9)), (Span("user", 0, 4), Span("invocation", 4, 6), Span("user", 6, 9)))
    assert stream.activation_start("turn") == 0


def test_an_unknown_activation_is_refused_with_the_known_ones():
    stream = TokenStream((1,), (Span("invocation", 0, 1),))
    with pytest.raises(PromptError, match="unknown(?s:.*)turns(?s:.*)invocation, turn, all"):
        stream.activation_start("turns")


def test_adding_streams_moves_the_spans():
    one, two = TokenStream((1, 2), (Span("a", 0, 2),)), TokenStream((3,), (Span("b", 0, 1),))
    assert one + two == TokenStream((1, 2, 3), (Span("a", 0, 2), Span("b", 2, 3)))


def test_a_missing_span_is_named_with_the_ones_that_are_there():
    with pytest.raises(PromptError, match="got: prefix(?s:.*)expected: selector(?s:.*)span"):
        TokenStream((1,), (Span("prefix", 0, 1),)).last_span("selector")
