"""The session of ``ask``: lines in, screens and lines of data out."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx.learning.ask import AskSession
from dualtune_mlx.learning.asked_tools import order_tools
from dualtune_mlx.tools import Tool

TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": 1}


def tool(name: str, *required: str, **properties: Any) -> Tool:
    return Tool(name, f"Does {name}.", {"type": "object", "properties": properties, "required": [*required]}, "s")


READ, NOW = tool("read", "path", path=TEXT, head=WHOLE), tool("now")


def session(*tools: Tool, fill: Any = lambda tool, request: {}, **more: Any) -> AskSession:
    return AskSession(tools or (READ,), fill, **more)


def take(asked: AskSession, *lines: str) -> str:
    """Give lines; the note behind the last one."""
    for line in lines:
        asked.take(line)
    return asked.screen.note


def test_a_request_is_said_filled_in_corrected_and_confirmed():
    asked = session(fill=lambda tool, request: {"head": 3, "path": 5, "else": 1})
    assert (asked.screen.state, asked.screen.number, asked.screen.count) == ("request", 1, 20)
    take(asked, "show me the top of a.txt")
    assert (asked.screen.state, asked.screen.round.missing) == ("value", "path")
    assert asked.screen.round.arguments == {"head": 3}, "what does not fit is not proposed"
    take(asked, "a.txt", "head=4")
    assert asked.screen.state == "confirm" and asked.lines == []
    take(asked, "")
    (line,) = asked.lines
    assert line["messages"][0]["content"] == "show me the top of a.txt"
    (call,) = line["messages"][1]["tool_calls"]
    assert call == {
        "type": "function",
        "server": "s",
        "function": {"name": "read", "arguments": {"head": 4, "path": "a.txt"}},
    }
    assert line["metadata"]["source"] == "user" and line["metadata"]["family"].startswith("user ")
    assert asked.screen.number == 2 and asked.draft == {}


@pytest.mark.parametrize(
    ("lines", "note", "arguments"),
    [
        (["head=0"], "head: 0 is less than the minimum of 1", {"path": "a"}),
        (["head=two"], "head: 'two' is not of type 'integer'", {"path": "a"}),
        (["size=2"], "type NAME=VALUE with one of these names: path, head", {"path": "a"}),
        (["yes"], "type NAME=VALUE with one of these names: path, head", {"path": "a"}),
        (["head=2", "head="], "", {"path": "a"}),
        (["path=b = c"], "", {"path": "b = c"}),
        (['{"path": "x", "head": 9}'], "", {"path": "x", "head": 9}),
        (['{"path": '], "this is not JSON", {"path": "a"}),
    ],
)
def test_a_correction_is_checked_at_once(lines, note, arguments):
    asked = session(fill=lambda tool, request: {"path": "a"})
    assert take(asked, "show a", *lines).startswith(note)
    assert asked.screen.round.arguments == arguments and asked.screen.state == "confirm"


def test_the_whole_call_is_checked_before_it_is_taken():
    pair = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    day = tool("day", day={"type": "string", "format": "date"})
    for one, request, call in ((Tool("either", "", pair), "do it", {"a": "x"}), (day, "then", {"day": "2026-11-30"})):
        asked = session(one, fill=lambda *_: {"day": "soon"})
        take(asked, request)
        assert take(asked, "") != "" and asked.lines == []
        (name, value), *_ = call.items()
        assert take(asked, f"{name}={value}", "") == "" and len(asked.lines) == 1


def test_every_fifth_request_is_one_that_no_tool_serves():
    asked = session(NOW, READ, count=10)
    for number in range(1, 11):
        one = asked.screen.round.tool
        assert (one is None) == (number % 5 == 0) and asked.screen.number == number
        take(asked, f"request {number}", *(["a", ""] if one == READ else []))
    assert asked.screen.state == "end" and len(asked.lines) == 10
    answers = [line["messages"][1] for line in asked.lines if not line["messages"][1].get("tool_calls")]
    assert len(answers) == 2 and all(answer["content"] for answer in answers)
    assert take(asked, "one more") == "" and len(asked.lines) == 10


def test_skip_and_back_lose_nothing():
    asked = session(READ, tool("write", path=TEXT), NOW, fill=lambda *_: {"path": "a"})
    first = asked.screen.round.tool
    assert take(asked, "/back") == "this is the first request of this session"
    take(asked, "one", "")
    second = asked.screen.round.tool
    take(asked, "/skip")
    assert asked.screen.round.tool not in (first, second) and asked.draft == {"skipped": [["s", second.name]]}
    take(asked, "/back", "/back")
    assert (asked.screen.round.tool, asked.screen.round.request, asked.screen.state) == (first, "one", "confirm")
    assert asked.lines == [], "it is to be confirmed again"
    take(asked, "/back", "one in other words", "")
    assert [line["messages"][0]["content"] for line in asked.lines] == ["one in other words"]


def test_what_was_said_before_is_not_taken_again():
    asked = session(NOW)
    assert take(asked, "What time is it?", "what  TIME is it?").startswith("you have said this before")
    again = session(NOW, before=asked.lines)
    assert again.screen.number == 2 and take(again, "what time is it?").startswith("you have said this before")
    assert take(again, "").startswith("type what you would say")


def test_a_session_begins_where_the_last_one_was_left():
    left = session(NOW, READ, tool("write", path=TEXT))
    take(left, "/skip") if left.screen.round.tool == NOW else None
    while left.screen.round.tool != READ:
        take(left, "/skip")
    take(left, "show a.txt", "a.txt", "head=2")
    draft = left.draft
    again = session(NOW, READ, draft=draft)
    assert (again.screen.state, again.screen.round.tool, dict(again.screen.round.arguments)) == (
        "confirm",
        READ,
        {"path": "a.txt", "head": 2},
    )
    take(again, "")
    assert len(again.lines) == 1
    gone = session(NOW, draft=draft)
    assert gone.screen.state == "request" and gone.screen.round.tool == NOW


def test_tools_get_a_turn_before_one_gets_a_second_and_those_alike_come_first():
    alike = Tool("read_file", "Read the file."), Tool("read_files", "Read the files.")
    tools = (Tool("now", "The time."), *alike)
    assert order_tools(tools, [], [], 3) == [*alike, tools[0]]
    assert order_tools(tools, [], [], 7) == [*alike, tools[0], alike[0], None, alike[1], tools[0]]
    asked = session(*tools, count=3)
    take(asked, "show a")
    assert order_tools(tools, asked.lines, [("", "read_files")], 3) == [tools[0], alike[0]]
    assert order_tools(tools, [{}] * 0, [], 0) == [] and order_tools([], [], [], 1) == [None]


def test_a_line_that_is_no_text_is_not_taken():
    assert take(session(NOW), "time \udc80").startswith("this line has characters")
