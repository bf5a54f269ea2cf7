"""Messages as other people write them: legacy calls, weights, parts of content, objects of client libraries."""

from __future__ import annotations

import json
from types import SimpleNamespace as Object
from typing import Any

import pytest

from dualtune_mlx.errors import DataError, DualTuneError, UsageError
from dualtune_mlx.tools import Message, Tool, ToolCall, as_messages, as_tools

WRITTEN = {"name": "read", "arguments": '{"path": "a"}'}
READ = ToolCall("read", {"path": "a"})


def test_a_call_of_the_older_form_is_a_call() -> None:
    assert Message.from_dict({"role": "assistant", "content": None, "function_call": WRITTEN}) == Message(
        "assistant", "", (READ,)
    )


def test_a_result_of_the_older_form_is_a_result() -> None:
    assert Message.from_dict({"role": "function", "name": "read", "content": "x"}) == Message("tool", "x")


def test_both_forms_in_one_message_are_refused() -> None:
    with pytest.raises(DataError, match="both tool_calls and function_call"):
        Message.from_dict({"role": "assistant", "function_call": WRITTEN, "tool_calls": [{"function": WRITTEN}]})


@pytest.mark.parametrize(("given", "weight"), [({}, 1), (None, 1), (0, 0), (1, 1), (0.0, 0), (1.0, 1)])
def test_a_weight_is_kept(given, weight) -> None:
    value = {"role": "assistant", "content": "x"} | ({} if given == {} else {"weight": given})
    message = Message.from_dict(value)
    assert (message.weight, type(message.weight)) == (weight, int)
    assert Message.from_dict(message.to_dict()) == message
    assert message.to_dict().get("weight") == (0 if weight == 0 else None)


@pytest.mark.parametrize("weight", [0.5, 2, -1, "0", True, False, [0], {}])
def test_another_weight_is_refused(weight) -> None:
    with pytest.raises(DataError, match=r"neither 0 nor 1(?s:.*)got: (?s:.*)fix: "):
        Message.from_dict({"role": "assistant", "content": "x", "weight": weight})


@pytest.mark.parametrize(
    ("part", "got"),
    [
        ({"type": "tool_use", "text": "x", "name": "read", "input": {}}, "a part of type 'tool_use'"),
        ({"type": "text", "text": 5}, "a part of type 'text'"),
        ({"type": "image_url"}, "a part of type 'image_url'"),
        ("x", "str"),
        (None, "NoneType"),
    ],
)
def test_content_that_is_not_text_is_refused_by_its_type(part, got) -> None:
    with pytest.raises(DataError, match="content that is not text") as caught:
        Message.from_dict({"role": "assistant", "content": [{"type": "text", "text": "a"}, part]})
    assert (caught.value.got, bool(caught.value.fix)) == (got, True)


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_only_the_assistant_calls(role) -> None:
    with pytest.raises(DataError, match="call stands at the wrong message"):
        Message.from_dict({"role": role, "content": "x", "tool_calls": [{"function": WRITTEN}]})


CALL = ToolCall("read", {"path": "é.txt"}, "fs", id="call_1")
USER = {"role": "user", "content": "show é.txt"}


def test_a_call_is_written_as_openai_clients_have_it():
    value = CALL.to_dict()
    assert value == {
        "id": CALL.id,
        "type": "function",
        "function": {"name": "read", "arguments": '{"path": "é.txt"}'},
        "server": "fs",
    }
    assert set(ToolCall("read").to_dict()) == {"id", "type", "function"}, "without a server nothing is added"
    read = ToolCall.from_dict(json.loads(json.dumps(value)))
    assert (read, read.id) == (CALL, CALL.id)


def test_every_call_has_an_id_of_its_own_and_equality_does_not_ask_for_it():
    first, second = ToolCall("read", {"path": "a"}), ToolCall("read", {"path": "a"})
    assert first == second
    assert first.id != second.id
    assert first.id.startswith("call_")
    assert ToolCall.from_dict({"id": "call_1", "function": {"name": "read"}}).id == "call_1"
    unnamed = ToolCall.from_dict({"id": None, "function": {"name": "read"}})
    assert (unnamed.id, "id" in unnamed.to_dict()) == ("", False), "what had no id gets none"


def test_a_conversation_goes_out_and_comes_back():
    messages = (
        Message("user", "show é.txt"),
        Message("assistant", tool_calls=(CALL,)),
        Message("tool", "text", tool_call_id=CALL.id),
    )
    sent = json.loads(json.dumps([message.to_dict() for message in messages]))
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == '{"path": "é.txt"}'
    assert sent[2] == {"role": "tool", "content": "text", "tool_call_id": CALL.id}
    assert as_messages(sent) == messages
    assert as_messages(sent)[1].tool_calls[0].id == CALL.id


def test_data_files_and_transcripts_have_no_ids_and_arguments_as_objects():
    message = Message("assistant", tool_calls=(CALL,))
    assert message.to_data()["tool_calls"] == [
        {"type": "function", "function": {"name": "read", "arguments": {"path": "é.txt"}}, "server": "fs"}
    ]
    assert Message("tool", "text", tool_call_id="call_1").to_data() == {"role": "tool", "content": "text"}


CLIENT_OBJECT = Object(
    role="assistant",
    content=None,
    refusal=None,
    function_call=None,
    tool_calls=[
        Object(id="call_1", type="function", function=Object(name="read", arguments='{"path": "é.txt"}')),
    ],
)


@pytest.mark.parametrize(
    "assistant",
    [
        CLIENT_OBJECT,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": CLIENT_OBJECT.tool_calls},
        {"role": "assistant", "content": None, "function_call": {"name": "read", "arguments": '{"path": "é.txt"}'}},
        Message("assistant", tool_calls=(CALL,)),
    ],
    ids=["client's object", "our call", "client's calls", "function_call", "ours"],
)
def test_messages_are_read_in_every_form_that_clients_have(assistant):
    named = "function_call" not in assistant if isinstance(assistant, dict) else True
    result = {"role": "tool", "content": "text", **({"tool_call_id": "call_1"} if named else {})}
    read = as_messages([Object(role="user", content="show é.txt"), assistant, result])
    assert [message.role for message in read] == ["user", "assistant", "tool"]
    (call,) = read[1].tool_calls
    assert (call.name, call.arguments) == ("read", {"path": "é.txt"})
    assert (read[1].content, read[2].tool_call_id) == ("", "call_1" if named else "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"role": "developer", "content": "Be brief."}, Message("system", "Be brief.")),
        ({"role": "function", "name": "read", "content": "text"}, Message("tool", "text")),
        ({"role": "assistant", "content": None, "refusal": "I cannot."}, Message("assistant", "I cannot.")),
        ({"role": "user", "content": [Object(type="text", text="hi")]}, Message("user", "hi")),
        ({"role": "tool", "content": ""}, Message("tool", "")),
    ],
    ids=["developer", "function", "refusal", "text parts", "an empty result"],
)
def test_what_openai_s_messages_say_is_kept(value, expected):
    assert Message(value["role"], "x").role == expected.role
    assert Message.from_dict(value) == expected


@pytest.mark.parametrize(
    ("messages", "error", "says"),
    [
        (42, UsageError, r"not a list of messages\n  got: 42\n(?s:.*)fix: "),
        (None, UsageError, r"not a list of messages\n  got: None"),
        (b"hi", UsageError, "not a list of messages"),
        (USER, UsageError, r"not a list of messages(?s:.*)fix: put the message into a list"),
        (Message("user", "hi"), UsageError, "put the message into a list"),
        (CLIENT_OBJECT, UsageError, "put the message into a list"),
        ([], UsageError, r"no messages(?s:.*)fix: "),
        ("", UsageError, r"request is empty(?s:.*)got: ''(?s:.*)fix: "),
        (" \n", UsageError, "request is empty"),
        ([{"role": "user", "content": " "}], UsageError, "request is empty"),
        ([USER, {"role": "assistant", "content": "ok"}, {"role": "user", "content": ""}], UsageError, "is empty"),
        (["hi"], DataError, "not a JSON object"),
        ([5], DataError, "not a JSON object"),
        ([{"role": "user"}], DataError, r"no content\n  where: role user(?s:.*)fix: "),
        ([USER, {"role": "assistant", "content": None}], DataError, "no content"),
        ([USER, {"role": "tool", "content": None, "tool_call_id": "call_1"}], DataError, "no content"),
        ([{"role": "user", "content": 5}], DataError, "not text"),
        ([{"role": "robot", "content": "x"}], DataError, r"unknown role(?s:.*)expected: .*developer"),
        ([USER, {"role": "assistant", "tool_calls": "read"}], DataError, "not a list"),
        ([USER, {"role": "assistant", "tool_calls": [5]}], DataError, "no name"),
        ([USER, {"role": "tool", "content": "x", "tool_call_id": "1"}], DataError, "of a call that(?s:.*)fix: "),
        ([USER, {"role": "user", "content": "x", "tool_call_id": "1"}], DataError, "id stands at the wrong message"),
    ],
)
def test_what_is_no_conversation_is_refused_by_name(messages: Any, error: type[DualTuneError], says: str):
    with pytest.raises(error, match=says):
        as_messages(messages)


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        (5, "got: 5"),
        (None, "got: None"),
        ("read", "got: 'read'"),
        (Tool("read"), "put the tool into a list"),
        (Tool("read").to_dict(), "put the tool into a list"),
    ],
)
def test_what_is_no_list_of_tools_is_refused_by_name(tools: Any, says: str):
    with pytest.raises(UsageError, match=f"(?s)not a list of tools.*{says}"):
        as_tools(tools)


def test_tools_may_be_objects_of_an_mcp_client():
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    given = Object(name="read", title=None, description="Read.", input_schema=schema, output_schema=None)
    assert as_tools([given]) == (Tool("read", "Read.", schema),)


def test_results_come_in_the_order_of_their_calls():
    calling = {"role": "assistant", "tool_calls": [{"id": one, "function": {"name": "read"}} for one in "ab"]}
    results = [{"role": "tool", "content": f"of {one}", "tool_call_id": one} for one in "ba"]
    assert [message.content for message in as_messages([USER, calling, *results])[2:]] == ["of a", "of b"]
