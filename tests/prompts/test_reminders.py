"""What ``chatml`` repeats with a result, where the adapter begins to act: the calls made so far, and the request."""

from __future__ import annotations

from dualtune_mlx.prompts import Prompt, Template
from dualtune_mlx.prompts.renderer import REMINDER
from dualtune_mlx.tools import Message, ToolCall
from tests import tiny
from tests.prompts.conversations import TOOLS

ASKED = Message("user", "Show a, then b.")


def called(name: str, path: str) -> Message:
    return Message("assistant", "", (ToolCall(name, {"path": path}),))


def active(*messages: Message) -> str:
    """What a selector's adapter sees of the conversation."""
    prompt = Prompt(Template("chatml"), tiny.tokenizer())
    stream = prompt.stream(messages, TOOLS, ToolCall("read_file", {"path": "z"}))
    start, end = stream.activation("turn"), stream.last("invocation").start
    return prompt.encoder.decode(list(stream.tokens[start:end]))


def test_all_calls_of_a_request_stand_before_the_latest_result():
    first = (ASKED, called("read_file", "a"), Message("tool", "one"))
    shown = active(*first, called("list_dir", "b"), Message("tool", "two"))
    assert 'Called: read_file {"path": "a"}; list_dir {"path": "b"}\nResult: two\nRequest: Show a, then b.' in shown
    assert "one" not in shown


def test_another_request_begins_with_no_calls():
    before = (ASKED, called("read_file", "a"), Message("tool", "one"), Message("assistant", "Done."))
    shown = active(*before, Message("user", "And c?"), called("read_file", "c"), Message("tool", "two"))
    assert 'Called: read_file {"path": "c"}\nResult: two\nRequest: And c?' in shown


def test_a_request_without_results_is_as_it_was_written():
    assert "Called" not in active(ASKED)


def test_long_calls_and_requests_are_cut_in_the_middle():
    long = "x" * 2 * REMINDER
    shown = active(Message("user", long), called("read_file", f"{long}end"), Message("tool", "one"))
    assert 'Called: read_file {"path": "xxx' in shown
    assert 'xend"}\nResult' in shown
    assert len(shown) < 2 * REMINDER + 200
