"""The keys of data files: what they say is obeyed, or refused by name with the line and what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dualtune_mlx.data import read_tools, read_trajectories
from dualtune_mlx.errors import DataError, ToolError
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory

PATH = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOL_ENTRY = {"type": "function", "function": {"name": "read", "parameters": PATH}}
USER = {"role": "user", "content": "show a"}
FUNCTION = {"name": "read", "arguments": {"path": "a"}}
CALLING = {"role": "assistant", "tool_calls": [{"function": FUNCTION}]}
ANSWER = {"role": "assistant", "content": "Done."}


@pytest.fixture
def read(tmp_path):
    """Reads one line, given by its messages and other keys, as the second line of a file."""

    def one(*messages: dict[str, Any], **more: Any) -> Trajectory:
        path = tmp_path / "train.jsonl"
        lines = [{"messages": [USER, CALLING], "tools": [TOOL_ENTRY]}]
        lines.append({"messages": list(messages or (USER, CALLING)), "tools": [TOOL_ENTRY]} | more)
        path.write_text("\n".join(map(json.dumps, lines)))
        return read_trajectories(path)[1]

    return one


PLAIN = Trajectory(
    (Message("user", "show a"), Message("assistant", "", (ToolCall("read", {"path": "a"}),))),
    (Tool("read", parameters=PATH),),
)


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        ([USER, CALLING], {"id": 7, "metadata": {"source": "x"}, "parallel_tool_calls": False}),
        ([USER, CALLING], {"weight": None, "functions": None, "anything": None}),
        ([{**USER, "name": "ann", "weight": 0}, {**CALLING, "weight": 1}], {"weight": 1}),
        ([USER, {**CALLING, "refusal": None, "audio": None, "function_call": None, "annotations": []}], {}),
        ([USER, {"role": "assistant", "function_call": FUNCTION}], {}),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "index": 0, **FUNCTION}]}], {}),
        ([{**USER, "content": [{"type": "text", "text": "show a", "cache_control": {}}]}, CALLING], {}),
        ([USER, CALLING], {"tools": None, "functions": [TOOL_ENTRY["function"]]}),
        ([USER, CALLING], {"tools": [{"type": "custom", "name": "read", "input_schema": PATH, "cache_control": {}}]}),
        ([USER, CALLING], {"tools": [{"name": "read", "parameters": {**PATH, "$defs": {}, "default": {}, "x-a": 1}}]}),
        ([USER, CALLING], {"tools": [{"name": "read", "title": "R", "inputSchema": PATH, "outputSchema": {}}]}),
    ],
)
def test_a_line_means_the_same_in_every_form(read, messages, more):
    found = read(*messages, **more)
    assert tuple(replace(message, weight=1) for message in found.messages) == PLAIN.messages
    assert [(tool.name, tool.parameters["properties"]) for tool in found.tools] == [("read", PATH["properties"])]


def test_a_refusal_is_what_the_assistant_said(read):
    assert read(USER, {"role": "assistant", "refusal": "no"}).messages[1] == Message("assistant", "no")


def test_a_message_of_weight_0_is_context(read):
    assert [message.weight for message in read(USER, {**CALLING, "weight": 0}, USER, CALLING).messages] == [1, 0, 1, 1]


def test_a_line_of_weight_0_is_context_as_a_whole(read):
    assert [message.weight for message in read(weight=0).messages] == [0, 0]


UNKNOWN = {
    "of a line": (([USER, CALLING], {"trainable": False}), '"trainable": false', '"weight": 0'),
    "that a line misspells": (([USER, CALLING], {"wieght": 0}), '"wieght": 0', 'did you mean "weight"?'),
    "of a column": (([USER, CALLING], {"category": "x"}), '"category": "x"', '"metadata"'),
    "of a message": (([USER, {**CALLING, "train": False}], {}), '"train": false', '"weight": 0'),
    "of thoughts": (([USER, {**CALLING, "reasoning_content": "hm"}], {}), "reasoning_content", "not learned"),
    "of a call": (
        ([USER, {"role": "assistant", "tool_calls": [{"function": FUNCTION, "result": 1}]}], {}),
        '"result": 1',
        "remove",
    ),
    "of a call's function": (
        ([USER, {"role": "assistant", "tool_calls": [{"function": {**FUNCTION, "argument": 1}}]}], {}),
        '"argument": 1',
        'did you mean "arguments"?',
    ),
    "of the older call": (
        ([USER, {"role": "assistant", "function_call": {**FUNCTION, "output": 1}}], {}),
        '"output": 1',
        "remove",
    ),
    "of a part": (
        ([{**USER, "content": [{"type": "text", "text": "x", "lang": "en"}]}, CALLING], {}),
        '"lang": "en"',
        "remove",
    ),
    "of a tool": (([USER, CALLING], {"tools": [{"name": "read", "args_schema": PATH}]}), "args_schema", "parameters"),
    "of a tool's function": (
        ([USER, CALLING], {"tools": [{"function": {"name": "read", "parameters": PATH, "required": ["path"]}}]}),
        '"required": ["path"]',
        "into the schema",
    ),
    "beside a tool's function": (
        ([USER, CALLING], {"tools": [{"function": {"name": "read"}, "parameters": PATH}]}),
        '"parameters": {',
        "remove",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_key_is_refused_by_name(read, name):
    (messages, more), got, fix = UNKNOWN[name]
    with pytest.raises(DataError, match="a key that is not known") as caught:
        read(*messages, **more)
    assert "train.jsonl:2" in str(caught.value.where)
    assert got in str(caught.value.got)
    assert fix in str(caught.value.fix)
    assert caught.value.expected


WRONG = {
    "a call of another type": (
        ([USER, {"role": "assistant", "tool_calls": [{"type": "custom", **FUNCTION}]}], {}),
        "a call is of a type that is not known",
    ),
    "a tool of another type": (([USER, CALLING], {"tools": [{"type": "mcp", "name": "read"}]}), "a tool is of a type"),
    "both forms of tools": (([USER, CALLING], {"functions": [TOOL_ENTRY]}), "both tools and functions"),
    "tools of the older form that are no list": (([USER, CALLING], {"tools": None, "functions": 1}), "not a list"),
    "two schemas": (
        ([USER, CALLING], {"tools": [{"name": "read", "parameters": PATH, "inputSchema": {}}]}),
        "several schemas",
    ),
    "parameters that are no schema": (
        ([USER, CALLING], {"tools": [{"name": "read", "parameters": {"path": {"type": "str"}}}]}),
        "parameters outside of its properties(?s:.*)tool 'read'(?s:.*)path",
    ),
    "parameters that are a list": (
        ([USER, CALLING], {"tools": [{"name": "read", "parameters": []}]}),
        "schema is not an object(?s:.*)tool 'read'",
    ),
    "parameters beside properties": (
        ([USER, CALLING], {"tools": [{"name": "read", "parameters": {**PATH, "n": {"type": "integer"}}}]}),
        "parameters outside of its properties(?s:.*)got: n",
    ),
    "a server that is a number": (([USER, CALLING], {"tools": [{**TOOL_ENTRY, "server": 5}]}), "server that is not"),
    "a weight between": (([USER, {**CALLING, "weight": 0.5}], {}), "neither 0 nor 1"),
    "a weight of a line between": (([USER, CALLING], {"weight": 0.5}), "neither 0 nor 1"),
    "a request with a call's id": (([{**USER, "tool_call_id": "1"}, CALLING], {}), "id stands at the wrong message"),
    "an answer and a refusal": (([USER, {**ANSWER, "refusal": "no"}], {}), "both content and refusal"),
    "arguments that are false": (
        ([USER, {"role": "assistant", "function_call": {"name": "read", "arguments": False}}], {}),
        "not a JSON object(?s:.*)message 2, call of 'read'",
    ),
    "parts that are 0": (([{**USER, "parts": 0}, CALLING], {}), "parts are not a list"),
    "a part that is 0": (([USER, {**CALLING, "part": 0}], {}), "part of a request is not text"),
    "a learned request": (([{**USER, "weight": 1}, CALLING], {}), "never learned"),
    "arguments that name a key twice": (
        ([USER, {"role": "assistant", "function_call": {**FUNCTION, "arguments": '{"path": "a", "path": "b"}'}}], {}),
        "arguments are not JSON(?s:.*)message 2, call of 'read'(?s:.*)'path' stands there twice",
    ),
    "arguments without an end": (
        ([USER, {"role": "assistant", "tool_calls": [{"name": "read", "arguments": '{"path": ' + "[" * 9999}]}], {}),
        "arguments are not JSON",
    ),
    "a call in a part of a message": (
        ([USER, {"role": "assistant", "content": [{"type": "tool_use", "text": "x", "name": "read"}]}], {}),
        "content that is not text",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_obeyed_is_refused(read, name):
    (messages, more), what = WRONG[name]
    with pytest.raises((DataError, ToolError), match=what) as caught:
        read(*messages, **more)
    assert "train.jsonl:2" in str(caught.value.where)


def calls(*ids: str | None) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": identity, "function": FUNCTION} for identity in ids]}


def result(text: str, identity: str | None = None) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": identity}


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        ([calls("a", "b"), result("of b", "b"), result("of a", "a")], ["of a", "of b"]),
        ([calls("a", "b"), result("of b", "b"), calls("a"), result("of a", "a")], ["of b", "of a"]),
        ([calls("a", "b"), result("first"), result("second")], ["first", "second"]),
        ([calls(None, None), result("first"), result("second")], ["first", "second"]),
    ],
    ids=["by ids", "of their own message", "without ids", "calls without ids"],
)
def test_results_come_in_the_order_of_their_calls(read, messages, texts):
    assert [message.content for message in read(USER, *messages).messages if message.role == "tool"] == texts


@pytest.mark.parametrize("calling", [calls("a"), calls(None)])
def test_a_result_of_no_call_is_refused(read, calling):
    with pytest.raises(DataError, match=r"train.jsonl:2, message 3(?s:.*)'b'(?s:.*)fix: ") as caught:
        read(USER, calling, result("x", "b"))
    assert "does not have" in caught.value.what


def test_a_page_of_a_list_of_tools_is_refused(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps({"tools": [TOOL_ENTRY], "nextCursor": "2"}))
    with pytest.raises(DataError, match="nextCursor(?s:.*)other pages"):
        read_tools(tmp_path / "tools.json")


@pytest.mark.parametrize("key", ["args", "input", "parameters"])
@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: {"function": body}])
def test_arguments_under_another_key_are_told_their_own(read, key, wrap):
    with pytest.raises(DataError, match='write them as "arguments"'):
        read(USER, {"role": "assistant", "tool_calls": [wrap({"name": "read", key: {"path": "a"}})]})


def test_a_system_text_beside_the_messages_is_told_its_place(read):
    with pytest.raises(DataError, match="message of the role system"):
        read(system="be brief")


CALL_TEXT = json.dumps(FUNCTION)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>\n{CALL_TEXT}\n</tool_call>",
        f"I look.\n<tool_call>{CALL_TEXT}</tool_call>",
        f"<functioncall> {CALL_TEXT}",
        f"<function_call>{CALL_TEXT}</function_call>",
        '<function=read>{"path": "a"}</function>',
        f"<|python_tag|>{CALL_TEXT}",
        f"[TOOL_CALLS][{CALL_TEXT}]",
        CALL_TEXT,
        f"[{CALL_TEXT}]",
        f"```json\n{CALL_TEXT}\n```",
        json.dumps({"name": "read", "parameters": {"path": "a"}}),
        json.dumps({"tool_calls": [{"function": FUNCTION}]}),
        '[read(path="a")]',
        'read(path="a")',
    ],
)
def test_a_call_that_is_written_into_an_answer_is_not_learned_as_one(read, text):
    with pytest.raises(DataError, match="call stands in an answer(?s:.*)message 2(?s:.*)tool_calls"):
        read(USER, {"role": "assistant", "content": text})
    assert read(USER, {"role": "assistant", "content": text, "weight": 0}, ANSWER).messages[1].content == text


@pytest.mark.parametrize(
    "text", ["I read a.", '{"name": "other", "arguments": {}}', '{"name": "read"}', "[1]", "{", "read (a) or not", "1"]
)
def test_an_answer_that_holds_no_call_is_one(read, text):
    assert read(USER, {"role": "assistant", "content": text}).messages[1].content == text
