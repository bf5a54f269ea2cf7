"""A line of a data file as a trajectory. What is wrong with a line is of a kind, so that faults can be counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dualtune_mlx.data.keys import LINE, check_keys, check_message, check_tool
from dualtune_mlx.data.written_calls import check_no_written_call
from dualtune_mlx.errors import DataError, DualTuneError, inside
from dualtune_mlx.files import parse_json
from dualtune_mlx.tools import LONGEST_PLAN, Message, Tool, Trajectory, find_called_tool, sort_results
from dualtune_mlx.tools.labels import label_tools
from dualtune_mlx.tools.messages import read_weight
from dualtune_mlx.tools.schemas import check_arguments, read_schema

LONGEST_SHOWN = 80
"""Characters of a line that an error repeats."""

OF_OTHERS = ("conversations", "query", "question", "event")
"""Keys of lines that ``data.importing`` reads."""


def parse_line(line: str, tools: tuple[Tool, ...]) -> Trajectory:
    """Read a line of a data file.

    Args:
        line: its text.
        tools: the visible tools, where the line has none of its own.

    Raises:
        DataError, ToolError: when it is wrong. Their ``kind`` is one of ``data.checking.KINDS``.
    """
    with of_kind("json"):
        value = parse_json(line, "a line is not JSON", None, "a JSON object on every line")
    with of_kind("keys"):
        if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
            is_other = isinstance(value, dict) and any(key in value for key in OF_OTHERS)
            raise DataError(
                "a line has no messages",
                got=line.strip()[:LONGEST_SHOWN],
                expected='{"messages": […], "tools": […]}',
                fix="bring it into this form: dualtune data import FILE --data FOLDER" if is_other else None,
            )
        check_keys(value, LINE)
    with of_kind("tools"):
        listed = _list_tools(value)
        visible = tools if listed is None else parse_tools(listed)
        label_tools(visible)  # which refuses tools that cannot be told apart
    with of_kind("message"):
        messages = _parse_messages(value)
    with of_kind("unknown_tool"):
        messages = tuple(_name_servers(message, visible) for message in messages)
    with of_kind("today"):
        trajectory = Trajectory(messages, visible, today=value.get("today") or "")
    _check_trajectory(trajectory)
    return trajectory


@contextmanager
def of_kind(kind: str) -> Iterator[None]:
    """Errors of the body are of a kind, unless they have one."""
    try:
        yield
    except DualTuneError as error:
        error.kind = error.kind or kind
        raise


def _list_tools(line: Mapping[str, Any]) -> list[Any] | None:
    """The line's own tools, under their key or the older one; None where it has none."""
    given = [line[key] for key in ("tools", "functions") if line.get(key) is not None]
    if len(given) > 1:
        raise DataError("a line has both tools and functions", fix="leave functions out: it is the older form")
    if given and not isinstance(given[0], list):
        raise DataError("a line's tools are not a list", got=type(given[0]).__name__, fix="write [tool, …]")
    return given[0] if given else None


def parse_tools(listed: Sequence[Any], server: str = "") -> tuple[Tool, ...]:
    """Tools as a line or a file lists them; ``server`` is that of those that name none.

    Raises:
        DataError, ToolError: when one cannot be used.
    """
    return tuple(_parse_tool(json.dumps(tool), server) for tool in listed)


@lru_cache(maxsize=1024)  # lines repeat their tools
def _parse_tool(text: str, server: str) -> Tool:
    value = json.loads(text)
    tool = Tool.from_dict(value, server)
    with inside(f"tool {tool.name!r}"):
        check_tool(value)
    read_schema(dict(tool.parameters), f"tool {tool.name!r}")
    return tool


def _parse_messages(line: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a line; all have weight 0 where the line has."""
    messages = []
    for number, value in enumerate(line["messages"], 1):
        with inside(f"message {number}"):
            messages.append(Message.from_dict(value))
            with of_kind("keys"):
                check_message(value)
    if not read_weight(line):
        messages = [replace(message, weight=0) for message in messages]
    with of_kind("result_without_call"):
        return sort_results(messages)


def _name_servers(message: Message, tools: Sequence[Tool]) -> Message:
    """The message; a call that is written out is of a tool, also of one that is called as the answer in words."""
    calls = message.tool_calls
    if not any(call.is_respond for call in calls):
        return message
    named = (replace(one, server=find_called_tool(one, tools).server) if one.is_respond else one for one in calls)
    return replace(message, tool_calls=tuple(named))


def _check_trajectory(trajectory: Trajectory) -> None:
    if not trajectory.tools:
        with of_kind("tools"):
            raise DataError("a trajectory has no tools", expected='"tools" in the line, or tools.json beside the file')
    with of_kind("order"):
        if not any(message.role == "assistant" for message in trajectory.messages):
            raise DataError("a trajectory has no assistant message", fix="add the call that should be learned")
        _check_order(trajectory.messages)
    with of_kind("parts"):
        _check_parts(trajectory.messages)
    for number, message in enumerate(trajectory.messages, 1):
        with inside(f"message {number}"), of_kind("written_call"):
            check_no_written_call(message, trajectory.tools)
        for call in message.tool_calls:
            with of_kind("unknown_tool"):
                tool = find_called_tool(call, trajectory.tools)
            with of_kind("schema"):
                check_arguments(call.arguments, tool)


def _check_parts(messages: Sequence[Message]) -> None:
    subtasks: tuple[str, ...] = ()
    for message in messages:
        subtasks = message.subtasks if message.role == "user" else subtasks
        if len(subtasks) > LONGEST_PLAN:
            raise DataError(
                "a request has too many parts",
                got=len(subtasks),
                expected=f"at most {LONGEST_PLAN}",
                fix="let some be one part: a part may need several calls",
            )
        if message.subtask and message.subtask not in subtasks:
            raise DataError(
                "a call is for a part that its request does not have",
                got=repr(message.subtask),
                expected=", ".join(map(repr, subtasks)) or 'a request with "parts"',
            )


def _check_order(messages: Sequence[Message]) -> None:
    """A system message comes first, and what is learned comes after a request."""
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        number = roles.index("system", 1) + 1
        raise DataError(
            "a system message stands inside a conversation",
            where=f"message {number}",
            expected="at most one, at the start",
            fix="join the system messages, or begin a line of its own there",
        )
    request = roles.index("user") if "user" in roles else len(roles)
    for number, message in enumerate(messages[:request], 1):
        if message.role == "assistant" and message.weight:
            raise DataError(
                "the assistant acts before any request",
                where=f"message {number}",
                expected="a message of the role user before it",
                fix='write the request, or let the message be context alone: "weight": 0',
            )
