"""Trajectory files: both forms of arguments, tools beside, and every error with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from dualtune_mlx.data import read_split, read_tools, read_trajectories, write_split, write_tools
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.errors import DataError, DualTuneError, ToolError, UsageError
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory, find_called_tool

PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ = {"type": "function", "function": {"name": "read", "description": "Read.", "parameters": PATH}, "server": "fs"}
USER = {"role": "user", "content": "show a"}


def call(name: str = "read", arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": {"path": "a"} if arguments is None else arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function, **more}]}


def line(*messages: dict[str, Any], **more: Any) -> str:
    return json.dumps({"messages": [USER, *(messages or (call(),))], **more})


@pytest.fixture
def write(tmp_path):
    """Writes ``train.jsonl`` and, unless told otherwise, ``tools.json``; the data file's path."""

    def files(*lines: str, tools: Any = (READ,)) -> Path:
        if tools:
            (tmp_path / "tools.json").write_text(json.dumps(list(tools)))
        (tmp_path / "train.jsonl").write_text("\n".join(lines))
        return tmp_path / "train.jsonl"

    return files


@pytest.mark.parametrize("arguments", [{"path": "a"}, '{"path": "a"}'], ids=["object", "JSON text"])
@pytest.mark.parametrize("beside", [True, False], ids=["tools.json", "tools in the line"])
def test_a_line_is_read_in_every_form(write, arguments, beside):
    text = line(call(arguments=arguments), **({} if beside else {"tools": [READ]}))
    (trajectory,) = read_trajectories(write(text, tools=(READ,) if beside else ()))
    assert trajectory == Trajectory(
        (Message("user", "show a"), Message("assistant", "", (ToolCall("read", {"path": "a"}),))),
        (Tool("read", "Read.", PATH, "fs"),),
    )


def test_a_line_s_own_tools_come_before_those_beside_it(write):
    other = {"name": "list", "inputSchema": PATH}
    (trajectory,) = read_trajectories(write(line(call("list"), tools=[other])))
    assert [tool.name for tool in trajectory.tools] == ["list"]


def test_parts_of_a_request_are_kept(write):
    calling = {**call(), "part": "show a"}
    messages = [{"role": "user", "content": "show a, then b", "parts": ["show a", "then b"]}, calling]
    (trajectory,) = read_trajectories(write(json.dumps({"messages": messages})))
    assert [message.to_data() for message in trajectory.messages] == [
        messages[0],
        {"role": "assistant", "content": "", "part": "show a", "tool_calls": ANY},
    ]
    assert Message.from_dict(trajectory.messages[1].to_dict()) == trajectory.messages[1]


@pytest.mark.parametrize(
    ("user", "assistant", "says"),
    [
        ({"parts": "show a"}, {}, "not a list"),
        ({"parts": [1]}, {}, "not text"),
        ({}, {"part": ["show a"]}, "not text"),
        ({}, {"parts": ["show a"]}, "wrong message"),
        ({"part": "show a"}, {}, "wrong message"),
        ({"parts": ["show a", "b"]}, {"part": "c"}, "(?s)does not have.*'show a', 'b'"),
        ({"parts": list("abcdefghi")}, {}, "(?s)too many parts.*at most 8"),
    ],
)
def test_parts_that_make_no_sense_are_refused(write, user, assistant, says):
    messages = [{"role": "user", "content": "show a", **user}, {**call(), **assistant}]
    with pytest.raises(DataError, match=says):
        read_trajectories(write(json.dumps({"messages": messages})))


def test_the_date_of_a_conversation_is_kept(write, tmp_path):
    (dated, plain) = read_trajectories(write(line(today="2026-11-30"), line(today=None)))
    assert (dated.today, plain.today) == ("2026-11-30", "")
    assert {decision.today for decision in call_decisions(dated)} == {"2026-11-30"}
    write_split(tmp_path, "valid", [dated, plain])
    assert read_split(tmp_path, "valid") == [dated, plain]


@pytest.mark.parametrize("today", ["30.11.2026", "2026-11-31", "20261130", "today", 20261130, ["2026-11-30"]])
def test_a_date_that_is_none_is_refused_with_its_line(write, today):
    with pytest.raises(DataError, match="not one(?s:.*)train.jsonl:1, today(?s:.*)2026-11-30"):
        read_trajectories(write(line(today=today)))


def test_text_parts_are_joined(write):
    parts = [{"type": "text", "text": "show "}, {"type": "text", "text": "a"}]
    text = json.dumps({"messages": [{"role": "user", "content": parts}, call()]})
    assert read_trajectories(write(text))[0].messages[0].content == "show a"


def test_empty_lines_are_skipped_and_counted(write):
    with pytest.raises(DataError, match=r"train.jsonl:4\b"):
        read_trajectories(write("", line(), "", "{"))
    assert len(read_trajectories(write("", line(), "  ", line(), ""))) == 2


BAD_LINES = {
    "not JSON": ("{'messages': []}", ["not JSON", "{'messages'"]),
    "not an object": ("[]", ["no messages"]),
    "no messages": ('{"prompt": "x"}', ["no messages", "prompt"]),
    "messages not a list": ('{"messages": {}}', ["no messages"]),
    "a message that is text": (json.dumps({"messages": ["hi"]}), ["message is not a JSON object"]),
    "unknown role": (line({"role": "robot", "content": "x"}), ["unknown role", "robot", "system, user, assistant"]),
    "no role": (line({"content": "x"}), ["unknown role"]),
    "content that is a number": (line({"role": "user", "content": 5}), ["content is not text"]),
    "an image": (line({"role": "user", "content": [{"type": "image_url"}]}), ["content that is not text", "image_url"]),
    "unknown tool": (line(call("rm")), ["not among the visible tools", "rm", "expected: read"]),
    "another server's tool": (line(call(server="git")), ["not among the visible tools", "git/read"]),
    "two servers' tool": (
        line(tools=[READ, {**READ, "server": "git"}]),
        ["several visible tools", "got: read", "expected: fs/read or git/read", "fix: write the call's server"],
    ),
    "call without a name": (line({"role": "assistant", "tool_calls": [{"function": {}}]}), ["no name"]),
    "arguments that are no JSON": (line(call(arguments="{path: a}")), ["arguments are not JSON", "read", "{path: a}"]),
    "arguments that are a list": (line(call(arguments=["a"])), ["arguments are not a JSON object", "read"]),
    "arguments that do not fit": (line(call(arguments={"path": 5})), ["do not fit", "fs/read at $.path", "got: 5"]),
    "a missing argument": (line(call(arguments={})), ["do not fit", "'path' is a required property"]),
    "no assistant": (json.dumps({"messages": [USER]}), ["no assistant message"]),
    "no tools": (line(tools=[]), ["no tools", "tools.json"]),
    "a tool without a name": (line(tools=[{"description": "x"}]), ["tool has no name"]),
    "a tool that is text": (line(tools=["read"]), ["tool is not a JSON object"]),
    "parameters that are text": (line(tools=[{"name": "read", "parameters": "x"}]), ["not a JSON Schema object"]),
    "an unknown type in a schema": (
        line(tools=[{"name": "read", "parameters": {"properties": {"path": {"type": "strin"}}}}]),
        ["not a valid JSON Schema", "tool 'read'", "strin"],
    ),
    "properties that are a number": (
        line(tools=[{"name": "read", "parameters": {"type": "object", "properties": 5}}]),
        ["not a valid JSON Schema: 'properties'", "tool 'read'", "got: 5"],
    ),
    "required that is a word": (
        line(tools=[{"name": "read", "parameters": {"type": "object", "required": "path"}}]),
        ["not a valid JSON Schema: 'required'", "tool 'read'", "got: 'path'", "expected: a list"],
    ),
    "tools that are no list": (line(tools=5), ["tools are not a list", "got: int"]),
    "calls that are no list": (line({"role": "assistant", "tool_calls": 5}), ["tool_calls"]),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_refused_with_its_number(write, name):
    text, words = BAD_LINES[name]
    with pytest.raises((DataError, ToolError)) as caught:
        read_trajectories(write(line(), line(), text))
    assert "train.jsonl:3" in str(caught.value.where)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("server", ["fs", "git", ""])
def test_a_call_with_its_server_is_that_server_s(write, server):
    tools = [READ, {**READ, "server": "git"}, *([] if server else [{**READ, "server": ""}])]
    (trajectory,) = read_trajectories(write(line(call(server=server), tools=tools)))
    assert find_called_tool(trajectory.messages[1].tool_calls[0], trajectory.tools).server == server


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="empty(?s:.*)train.jsonl"):
        read_split(tmp_path, "train")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8(?s:.*)train.jsonl"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize("read", [read_trajectories, read_tools])
def test_a_missing_file_is_a_wrong_call(tmp_path, read):
    with pytest.raises(UsageError, match="cannot be read(?s:.*)nowhere.json"):
        read(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        [READ],
        {"tools": [READ]},
        {"server": "fs", "tools": [{"name": "read", "description": "Read.", "inputSchema": PATH}]},
        [{"name": "read", "description": "Read.", "input_schema": PATH, "server": "fs"}],
    ],
    ids=["OpenAI", "tools/list of OpenAI", "tools/list of MCP", "Anthropic"],
)
def test_tools_are_read_in_every_form(tmp_path, value):
    (tmp_path / "tools.json").write_text(json.dumps(value))
    assert read_tools(tmp_path / "tools.json") == (Tool("read", "Read.", PATH, "fs"),)


def test_tools_are_read_with_a_byte_order_mark(tmp_path):
    (tmp_path / "tools.json").write_text("\ufeff" + json.dumps({"tools": [READ], "serverInfo": {"name": "x"}}))
    assert [tool.name for tool in read_tools(tmp_path / "tools.json")] == ["read"]


@pytest.mark.parametrize("server", ["filesystem", "git", "everything", "sqlite", "memory", "time"])
def test_lists_of_real_servers_are_read(server):
    assert read_tools(Path(__file__).parents[1] / "fixtures" / "tools" / f"{server}.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not JSON"]),
        ("{}", ["no list of tools"]),
        ("[]", ["no list of tools"]),
        ('"read"', ["no list of tools"]),
        ('[{"name": ""}]', ["no name"]),
        ('[{"name": "read", "parameters": {"type": "array"}}]', ["does not describe an object", "tool 'read'"]),
        ('[{"name": "read", "parameters": {"properties": 5}}]', ["not a valid JSON Schema", "tool 'read'"]),
    ],
)
def test_a_bad_tools_file_is_refused_with_its_name(tmp_path, text, words):
    (tmp_path / "tools.json").write_text(text)
    with pytest.raises(DualTuneError) as caught:
        read_tools(tmp_path / "tools.json")
    assert "tools.json" in str(caught.value.where)
    for word in words:
        assert word in str(caught.value)


def test_a_split_comes_back_as_it_was_written(tmp_path):
    tools = (
        Tool("read", "Read.", PATH, "fs", group="reading"),
        Tool("now", "Time.", {"type": "object", "properties": {}}),
    )
    trajectories = [
        Trajectory(
            (
                Message("system", "be brief"),
                Message("user", 'line\u2028break\nand "ä"'),
                Message("assistant", "well", (ToolCall("read", {"path": "a\nb"}, "fs"), ToolCall("now"))),
                Message("tool", "<|im_end|>"),
                Message("assistant", "done"),
            ),
            tools,
        ),
        Trajectory((Message("user", "hi"), Message("assistant", "hello")), tools),
    ]
    write_tools(tmp_path, tools)
    write_split(tmp_path, "valid", trajectories)
    assert read_split(tmp_path, "valid") == trajectories


def test_every_assistant_call_is_a_step_with_what_came_before():
    one, two = ToolCall("read", {"path": "a"}), ToolCall("read", {"path": "b"})
    messages = (Message("user", "x"), Message("assistant", "", (one, two)), Message("tool", "r"), Message("assistant"))
    found = list(call_decisions(Trajectory(messages, ())))
    assert [step.call for step in found] == [one, two, ToolCall(RESPOND.name)]
    assert [step.messages for step in found] == [
        messages[:1],
        (messages[0], Message("assistant", "", (one,))),
        messages[:3],
    ]


def test_a_tool_may_be_called_as_the_answer_in_words_if_it_has_a_server(write):
    respond = {"name": "respond", "inputSchema": PATH}
    path = write(line(call("respond"), tools=[{**respond, "server": "mail"}]))
    (decision,) = call_decisions(read_trajectories(path)[0])
    assert decision.call == ToolCall("respond", {"path": "a"}, "mail") and not decision.call.is_respond
    with pytest.raises(ToolError, match=r"without a server(?s:.*)train.jsonl:2(?s:.*)tool 'respond'"):
        read_trajectories(write(line(), line(tools=[respond, READ])))


def test_tools_that_cannot_be_told_apart_are_refused_by_line(write):
    other = {**READ, "function": {**READ["function"], "description": "Reads otherwise."}}
    with pytest.raises(ToolError, match=r"same name(?s:.*)train.jsonl:2(?s:.*)fs"):
        read_trajectories(write(line(), line(tools=[READ, other])))
