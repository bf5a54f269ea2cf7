"""Trajectory files: a folder with ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl``.

A line is ``{"messages": […], "tools": […]}`` in OpenAI's style; ``tools`` may be left out when
``tools.json`` lies beside the file. Every assistant call must be of a visible tool and fit its schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import DataError, ToolError, UsageError
from dualtune_mlx.tools import LONGEST_PLAN, Message, Tool, Trajectory, find_called_tool
from dualtune_mlx.tools.schemas import check_arguments, read_schema

SPLITS = ("train", "valid", "test")


def read_split(folder: str | Path, split: str) -> list[Trajectory]:
    """Read the trajectories of one split of a data folder; errors as in ``read_trajectories``."""
    return read_trajectories(Path(folder) / f"{split}.jsonl")


def read_trajectories(path: str | Path) -> list[Trajectory]:
    """Read the trajectories of a ``.jsonl`` file.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when the file is empty or a line is wrong; the message names the line.
    """
    path = Path(path)
    beside = path.parent / "tools.json"
    tools = read_tools(beside) if beside.is_file() else ()
    numbered = [(n, line) for n, line in enumerate(_read_text(path).split("\n"), 1) if line.strip()]
    if not numbered:
        raise DataError("a data file is empty", where=path, expected='lines of {"messages": […], "tools": […]}')
    return [_parse_line(line, tools, f"{path}:{number}") for number, line in numbered]


def read_tools(path: str | Path) -> tuple[Tool, ...]:
    """Read tools from a JSON file.

    The file holds a list of tools, or ``{"tools": […], "server": …}`` like MCP's answer to ``tools/list``.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when it holds no such list, or a tool's schema is not valid.
    """
    path = Path(path)
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise DataError("a tools file is not JSON", where=path, got=error) from error
    server = str(value.get("server", "")) if isinstance(value, Mapping) else ""
    listed = value.get("tools") if isinstance(value, Mapping) else value
    if not isinstance(listed, list) or not listed:
        raise DataError("a tools file holds no list of tools", where=path, expected='[…] or {"tools": […]}')
    try:
        tools = tuple(Tool.from_dict(tool, server) for tool in listed)
    except ToolError as error:
        nested = f"{path}: {error.where}" if error.where else path
        raise ToolError(error.what, where=nested, got=error.got, expected=error.expected) from error
    for tool in tools:
        read_schema(dict(tool.parameters), f"{path}: tool {tool.name!r}")
    return tools


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError("a file cannot be read", where=path, got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise DataError("a file is not UTF-8 text", where=path, got=error.reason) from error


def _parse_line(line: str, tools: tuple[Tool, ...], where: str) -> Trajectory:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(
            "a line is not JSON", where=where, got=f"{line[:80]} ({error})", expected="a JSON object"
        ) from error
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        raise DataError(
            "a line has no messages", where=where, got=line[:80], expected='{"messages": […], "tools": […]}'
        )
    if not isinstance(value.get("tools", []), list):
        raise DataError("a line's tools are not a list", where=where, got=type(value["tools"]).__name__)
    try:
        visible = tuple(_parse_tool(tool) for tool in value["tools"]) if "tools" in value else tools
        trajectory = Trajectory(tuple(Message.from_dict(message) for message in value["messages"]), visible, where)
        _check_trajectory(trajectory)
    except (DataError, ToolError) as error:
        nested = f"{where}, {error.where}" if error.where else where
        raise type(error)(error.what, where=nested, got=error.got, expected=error.expected, fix=error.fix) from error
    return trajectory


def _parse_tool(value: Mapping[str, Any]) -> Tool:
    tool = Tool.from_dict(value)
    _check_schema(json.dumps(dict(tool.parameters)), f"tool {tool.name!r}")
    return tool


@lru_cache(maxsize=1024)  # lines repeat their tools
def _check_schema(schema: str, where: str) -> None:
    read_schema(json.loads(schema), where)


def _check_trajectory(trajectory: Trajectory) -> None:
    if not trajectory.tools:
        raise DataError("a trajectory has no tools", expected='"tools" in the line, or tools.json beside the file')
    if not any(message.role == "assistant" for message in trajectory.messages):
        raise DataError("a trajectory has no assistant message", fix="add the call that should be learned")
    subtasks: tuple[str, ...] = ()
    for message in trajectory.messages:
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
