"""Trajectory files: a folder with ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl``.

A line is ``{"messages": […], "tools": […]}`` in OpenAI's style; ``tools`` may be left out when
``tools.json`` lies beside the file. Every assistant call must be of a visible tool and fit its schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dualtune_mlx.data.keys import LINE, TOOLS_FILE, check_keys, check_message, check_tool
from dualtune_mlx.data.written_calls import check_no_written_call
from dualtune_mlx.errors import DataError, UsageError, inside
from dualtune_mlx.files import parse_json, read_text
from dualtune_mlx.tools import LONGEST_PLAN, Message, Tool, Trajectory, find_called_tool, sort_results
from dualtune_mlx.tools.labels import label_tools
from dualtune_mlx.tools.messages import read_weight
from dualtune_mlx.tools.schemas import check_arguments, read_schema

SPLITS = ("train", "valid", "test")
LONGEST_SHOWN = 80
"""Characters of a line that an error repeats."""


def read_split(folder: str | Path, split: str) -> list[Trajectory]:
    """Read the trajectories of one split of a data folder.

    Raises:
        UsageError: when the folder has no such file, or the file cannot be read.
        DataError, ToolError: as in ``read_trajectories``.
    """
    folder = Path(folder)
    path = folder / f"{split}.jsonl"
    if not path.exists():
        raise UsageError("a data file cannot be read", where=path, got=_describe(folder), fix=_way_out(folder, split))
    return read_trajectories(path)


def _describe(folder: Path) -> str:
    if not folder.is_dir():
        return "a file, no folder" if folder.exists() else "no such folder"
    return ", ".join(f"{name}.jsonl" for name in SPLITS if (folder / f"{name}.jsonl").exists()) or "no .jsonl file"


def _way_out(folder: Path, split: str) -> str:
    if folder.is_file():
        return f"name the folder: {folder.parent}"
    if split == "valid" and (folder / "train.jsonl").exists():
        return (
            "let every tenth line of train.jsonl be validation data, in the folder: mv train.jsonl all.jsonl; "
            """awk '{print > (NR % 10 ? "train.jsonl" : "valid.jsonl")}' all.jsonl"""
        )
    return f"write the conversations into {folder / split}.jsonl, one a line"


def read_trajectories(path: str | Path) -> list[Trajectory]:
    """Read the trajectories of a ``.jsonl`` file.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when the file is empty or a line is wrong; the message names the line.
    """
    path = Path(path)
    beside = path.parent / "tools.json"
    numbered = [(n, line) for n, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not numbered:
        raise DataError("a data file is empty", where=path, expected='lines of {"messages": […], "tools": […]}')
    tools = read_tools(beside) if beside.is_file() else ()
    return [_parse_line(line, tools, f"{path}:{number}") for number, line in numbered]


def read_tools(path: str | Path) -> tuple[Tool, ...]:
    """Read tools from a JSON file.

    The file holds a list of tools, or ``{"tools": […], "server": …}`` like MCP's answer to ``tools/list``.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when it holds no such list, or a tool's schema is not valid.
    """
    path = Path(path)
    value = parse_json(read_text(path), "a tools file is not JSON", path)
    listed = value.get("tools") if isinstance(value, Mapping) else value
    if not isinstance(listed, list) or not listed:
        raise DataError("a tools file holds no list of tools", where=path, expected='[…] or {"tools": […]}')
    with inside(path):
        check_keys(value, TOOLS_FILE)
        server = str(value.get("server") or "") if isinstance(value, Mapping) else ""
        return _parse_tools(listed, server)


def _parse_line(line: str, tools: tuple[Tool, ...], where: str) -> Trajectory:
    value = parse_json(line, "a line is not JSON", where, "a JSON object on every line")
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        raise DataError(
            "a line has no messages",
            where=where,
            got=line.strip()[:LONGEST_SHOWN],
            expected='{"messages": […], "tools": […]}',
        )
    with inside(where):
        check_keys(value, LINE)
        listed = _list_tools(value)
        visible = tools if listed is None else _parse_tools(listed)
        label_tools(visible)  # which refuses tools that cannot be told apart
        messages = tuple(_name_servers(message, visible) for message in _parse_messages(value))
        trajectory = Trajectory(messages, visible, where, value.get("today") or "")
        _check_trajectory(trajectory)
    return trajectory


def _list_tools(line: Mapping[str, Any]) -> list[Any] | None:
    """The line's own tools, under their key or the older one; None where it has none."""
    given = [line[key] for key in ("tools", "functions") if line.get(key) is not None]
    if len(given) > 1:
        raise DataError("a line has both tools and functions", fix="leave functions out: it is the older form")
    if given and not isinstance(given[0], list):
        raise DataError("a line's tools are not a list", got=type(given[0]).__name__, fix="write [tool, …]")
    return given[0] if given else None


def _parse_tools(listed: Sequence[Any], server: str = "") -> tuple[Tool, ...]:
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
            check_message(value)
    if not read_weight(line):
        messages = [replace(message, weight=0) for message in messages]
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
        raise DataError("a trajectory has no tools", expected='"tools" in the line, or tools.json beside the file')
    if not any(message.role == "assistant" for message in trajectory.messages):
        raise DataError("a trajectory has no assistant message", fix="add the call that should be learned")
    _check_order(trajectory.messages)
    subtasks: tuple[str, ...] = ()
    for number, message in enumerate(trajectory.messages, 1):
        with inside(f"message {number}"):
            check_no_written_call(message, trajectory.tools)
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
        for call in message.tool_calls:
            check_arguments(call.arguments, find_called_tool(call, trajectory.tools))


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
