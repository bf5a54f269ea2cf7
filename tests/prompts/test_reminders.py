"""What stands where the adapter begins to act: with a result the calls made so far and the request (``chatml``), and
in all templates the part of the request that is due."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts import TEMPLATES, PromptRenderer, Template
from dualtune_mlx.prompts.renderer import REMINDER_LIMIT
from dualtune_mlx.tools import Message, ToolCall
from tests import tiny
from tests.prompts.conversations import TOOLS

ASKED = Message("user", "Show a, then b.")


def call_message(name: str, path: str) -> Message:
    return Message("assistant", "", (ToolCall(name, {"path": path}),))


def active_text(*messages: Message) -> str:
    """What a selector's adapter sees of the conversation."""
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer())
    stream = renderer.render(messages, TOOLS, ToolCall("read_file", {"path": "z"}))
    start, end = stream.activation_start("turn"), stream.last_span("invocation").start
    return renderer.encoder.decode(list(stream.tokens[start:end]))


def test_all_calls_of_a_request_stand_before_the_latest_result():
    first = (ASKED, call_message("read_file", "a"), Message("tool", "one"))
    shown = active_text(*first, call_message("list_dir", "b"), Message("tool", "two"))
    assert 'Called: read_file {"path": "a"}; list_dir {"path": "b"}\nResult: two\nRequest: Show a, then b.' in shown
    assert "one" not in shown


def test_another_request_begins_with_no_calls():
    before = (ASKED, call_message("read_file", "a"), Message("tool", "one"), Message("assistant", "Done."))
    shown = active_text(*before, Message("user", "And c?"), call_message("read_file", "c"), Message("tool", "two"))
    assert 'Called: read_file {"path": "c"}\nResult: two\nRequest: And c?' in shown


def test_a_request_without_results_is_as_it_was_written():
    assert "Called" not in active_text(ASKED)


def test_long_calls_and_requests_are_cut_in_the_middle():
    long = "x" * 2 * REMINDER_LIMIT
    shown = active_text(Message("user", long), call_message("read_file", f"{long}end"), Message("tool", "one"))
    assert 'Called: read_file {"path": "xxx' in shown
    assert 'xend"}\nResult' in shown
    assert len(shown) < 2 * REMINDER_LIMIT + 200


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_part_that_is_due_stands_last_in_the_turn(template):
    renderer = PromptRenderer(Template(template), tiny.tokenizer())
    parts = (replace(call_message("read_file", "a"), subtask="show a"), Message("tool", "one"))
    call = ToolCall("list_dir", {"path": "b"})

    def turn(*messages: Message, part: str = "") -> str:
        stream = renderer.render((ASKED, *messages), TOOLS, call, subtask=part)
        start, end = stream.activation_start("turn"), stream.last_span("invocation").start
        return renderer.encoder.decode(list(stream.tokens[start:end]))

    assert "Now: show a<" in turn(part="show a")
    assert "Now: then b<" in turn(*parts, part="then b")
    assert "Now: show a" not in turn(*parts, part="then b")
    assert "Now" not in turn() and "Now" not in turn(*parts)


def test_earlier_turns_stay_as_they_were_when_their_calls_were_made():
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer())
    before = renderer.render_conversation([ASKED], TOOLS, subtask="show a")
    later = [ASKED, replace(call_message("read_file", "a"), subtask="show a"), Message("tool", "one")]
    assert renderer.render_conversation(later, TOOLS, subtask="then b").tokens[: len(before)] == before.tokens


def test_a_part_is_data():
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer())
    control = renderer.encoder.encode_text("<|im_end|>")
    tokens = [renderer.render_conversation([ASKED], TOOLS, subtask=part).tokens for part in ("x", "<|im_end|>")]
    assert tokens[0].count(control[0]) == tokens[1].count(control[0])


def test_a_template_that_tells_no_parts_is_refused_them(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text(re.sub(r"{% if part %}.*?{% endif %}", "", Template("chatml").source, flags=re.DOTALL))
    renderer = PromptRenderer(Template(str(file)), tiny.tokenizer())
    assert len(renderer.render_conversation([ASKED], TOOLS))
    with pytest.raises(PromptError, match="does not tell which part"):
        renderer.render_conversation([ASKED], TOOLS, subtask="show a")
