"""Requests that are learned beside those that are made: written by hand, imported, or collected."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dualtune_mlx.data.lines import DataLine, iter_right_lines
from dualtune_mlx.data.parsing import parse_line
from dualtune_mlx.data.wordings import fold
from dualtune_mlx.errors import DataError, inside
from dualtune_mlx.files import load_json
from dualtune_mlx.tools import Message, Tool, Trajectory, find_called_tool
from dualtune_mlx.training.examples import check_arguments_writable


def read_more(files: Sequence[Path], tools: tuple[Tool, ...], measured: Sequence[Trajectory]) -> list[str]:
    """The lines of files, each in view of the tools that are learned instead of its own.

    Args:
        files: data files.
        tools: the tools that are learned.
        measured: the user's own requests, which must not be learned.

    Raises:
        UsageError: when a file cannot be read.
        DataError, ToolError: when a line is wrong, its calls are not of these tools, or it is measured. The message
            names the file and the line.
    """
    asked = {fold(request) for one in measured for request in _requests(one)}
    lines, trajectories = [], []
    for path in files:
        for line in iter_right_lines(path, tools):
            with inside(place := f"{path}:{line.number}"):
                trajectory = _see(line, tools)
                _check_unmeasured(trajectory, asked)
            trajectories.append(replace(trajectory, name=place))
            lines.append(_write(line, trajectory))
    check_arguments_writable(trajectories)
    return lines


def _see(line: DataLine, tools: tuple[Tool, ...]) -> Trajectory:
    """The line in view of these tools."""
    value = load_json(line.text)
    seen = {key: value[key] for key in value if key not in ("tools", "functions")}
    return parse_line(json.dumps(seen), tools)


def _write(line: DataLine, trajectory: Trajectory) -> str:
    """The trajectory as a line without tools, where each call names its server."""
    metadata = load_json(line.text).get("metadata")
    named = replace(trajectory, messages=tuple(_name_servers(one, trajectory.tools) for one in trajectory.messages))
    value = {**named.to_dict(with_tools=False), **({"metadata": metadata} if metadata else {})}
    return json.dumps(value, ensure_ascii=False)


def _name_servers(message: Message, tools: Sequence[Tool]) -> Message:
    calls = (replace(call, server=find_called_tool(call, tools).server) for call in message.tool_calls)
    return replace(message, tool_calls=tuple(calls))


def _check_unmeasured(trajectory: Trajectory, asked: set[str]) -> None:
    for request in _requests(trajectory):
        if fold(request) in asked:
            raise DataError(
                "a request that is measured cannot be learned too",
                got=request,
                fix="take it out of this file, or out of the bundle's data/test.jsonl",
            )


def _requests(trajectory: Trajectory) -> Iterator[str]:
    return (message.content for message in trajectory.messages if message.role == "user")
