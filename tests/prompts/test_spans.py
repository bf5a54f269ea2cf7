"""One rendering for training and inference, and spans recorded while it is built."""

from __future__ import annotations

import pytest

from dualtune_mlx.prompts import TEMPLATES, PromptRenderer, Template
from dualtune_mlx.tools import RESPOND, Message, ToolCall, as_messages
from tests import tiny
from tests.prompts.conversations import PATH, TOOLS, with_text

CALL = ToolCall("read_file", {"path": "a b.txt"})
JSON = '{"path": "a b.txt"}'
WRITTEN = {
    "chatml": ("<|im_start|>assistant\n", "read_file\n", f"{JSON}<|im_end|>\n"),
    "hermes": (
        '<|im_start|>assistant\n<tool_call>\n{"name": "',
        'read_file"',
        f"{JSON}}}\n</tool_call><|im_end|>\n",
    ),
    "llama3": (
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "',
        'read_file"',
        f"{JSON}}}<|eot_id|>",
    ),
    "gemma": ("<start_of_turn>model\n", "read_file\n", f"{JSON}<end_of_turn>\n"),
}


@pytest.fixture(params=TEMPLATES)
def renderer(request) -> PromptRenderer:
    return PromptRenderer(Template(request.param), tiny.tokenizer())


def test_the_spans_hold_what_the_template_says(renderer):
    stream = renderer.render(as_messages("show it"), TOOLS, CALL)
    spans = ("invocation", "selector", "arguments")
    decoded = tuple(renderer.encoder.decode(list(stream.span_tokens(name))) for name in spans)
    assert decoded == WRITTEN[renderer.template.name]
    assert stream.last_span("arguments").end == len(stream)


def test_a_message_s_span_holds_its_text_and_its_turn(renderer):
    stream = renderer.render_conversation(with_text("user", "QXQXQ")["messages"], with_text("user", "QXQXQ")["tools"])
    for name, text in (("prefix", "system here"), ("user", "QXQXQ"), ("tool", "result here")):
        assert text in renderer.encoder.decode(list(stream.span_tokens(name)))
    assert "".join(renderer.encoder.decode(list(stream.tokens[s.start : s.end])) for s in stream.spans) == (
        renderer.encoder.decode(list(stream.tokens))
    )


def test_spans_come_in_order_and_never_overlap(renderer):
    stream = renderer.render(**with_text("user", "QXQXQ"))
    assert [span.name for span in stream.spans] == [
        "prefix",
        "user",
        "assistant",
        "assistant",
        "tool",
        "invocation",
        "selector",
        "arguments",
    ]
    assert stream.spans[0].start == 0
    for before, after in zip(stream.spans, stream.spans[1:], strict=False):
        assert before.start < before.end <= after.start
    assert stream.spans[-1].end <= len(stream)


def test_the_whole_stream_is_the_conversation_and_then_the_call(renderer):
    step = with_text("user", "QXQXQ")
    conversation = renderer.render_conversation(step["messages"], step["tools"])
    call = renderer.render_call(step["call"], step["tools"])
    assert renderer.render(**step).tokens == conversation.tokens + call.tokens


def test_what_inference_reads_is_a_prefix_of_what_training_reads(renderer):
    messages = as_messages("show it")
    training = renderer.render(messages, TOOLS, CALL)
    choosing = renderer.render(messages, TOOLS, ToolCall(RESPOND.name))
    writing = renderer.render(messages, TOOLS, ToolCall("read_file"))
    for stage, inference in (("selector", choosing), ("arguments", writing)):
        start = training.last_span(stage).start
        assert inference.last_span(stage).start == start
        assert inference.tokens[:start] == training.tokens[:start]


def test_a_conversation_is_append_only(renderer):
    step = with_text("user", "QXQXQ")
    whole = renderer.render_conversation(step["messages"], step["tools"]).tokens
    for count in range(2, len(step["messages"])):
        part = renderer.render_conversation(step["messages"][:count], step["tools"]).tokens
        assert whole[: len(part)] == part


def test_a_past_call_is_the_same_tokens_as_when_it_was_made(renderer):
    messages = as_messages("show it")
    made = renderer.render(messages, TOOLS, CALL).tokens
    after = renderer.render_conversation((*messages, Message("assistant", "", (CALL,))), TOOLS)
    assert after.tokens == made
    assert [span.name for span in after.spans] == ["prefix", "user", "assistant"]


def test_respond_has_no_arguments(renderer):
    stream = renderer.render_call(ToolCall(RESPOND.name), TOOLS)
    assert [span.name for span in stream.spans] == ["invocation", "selector"]
    assert stream.last_span("selector").end == len(stream)


def test_no_name_begins_another_s_tokens(renderer):
    names = ["git_diff", "git_diff_staged", "git_diff_staged_all", "git", "respond_later", "g"]
    tools = [type(TOOLS[0])(name, "", PATH) for name in names]
    spans = [renderer.render_call(ToolCall(name), tools).span_tokens("selector") for name in [*names, RESPOND.name]]
    for one in spans:
        assert sum(other[: len(one)] == one for other in spans) == 1


@pytest.mark.parametrize("given", [{"b": 1, "a": 2, "x": 3}, {"x": 3, "a": 2, "b": 1}, {"a": 2, "x": 3, "b": 1}])
def test_arguments_are_written_in_the_schema_s_order(renderer, given):
    from dualtune_mlx.tools import Tool

    tool = Tool("t", "", {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}})
    written = renderer.encoder.decode(list(renderer.render_call(ToolCall("t", given), [tool]).span_tokens("arguments")))
    assert written.startswith('{"a": 2, "b": 1, "x": 3}')


def test_arguments_are_written_as_readable_json(renderer):
    call = ToolCall("read_file", {"path": 'Ä "q" 日本\n'})
    written = renderer.encoder.decode(list(renderer.render_call(call, TOOLS).span_tokens("arguments")))
    assert written.startswith('{"path": "Ä \\"q\\" 日本\\n"}')
