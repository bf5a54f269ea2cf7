"""Our own wordings for six servers, and for requests that no tool serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dualtune_mlx.files import parse_json
from dualtune_mlx.start.domain import Domain, LabelledRequest
from dualtune_mlx.synthesis import generate_requests
from dualtune_mlx.tools import Tool

COUNT = 3000
"""Requests that are generated for all servers together."""
PINNED = {"repo_path"}
"""Parameters that the host gives, so that no request says them."""


def read_wordings(folder: Path) -> Iterator[Domain]:
    """A domain for each server whose ``tools/list`` answer lies in the folder: ``git.json``, ``time.json``, …"""
    tools = [tool for path in sorted(folder.glob("*.json")) for tool in _read_list(path)]
    requests: dict[str, list[LabelledRequest]] = {tool.server: [] for tool in tools}
    small_talk = []
    for trajectory in generate_requests("train", COUNT, seed=1, tools=tools, answer_every=0):
        text, reply = (message for message in trajectory.messages)
        if not reply.tool_calls:
            small_talk.append(LabelledRequest(text.content))
            continue
        call = reply.tool_calls[0]
        requests[call.server].append(LabelledRequest(text.content, call.name, call.arguments, trajectory.today))
    for server, found in requests.items():
        own = tuple(replace(tool, server="") for tool in tools if tool.server == server)
        yield Domain("wordings", server, own, tuple(found))
    yield Domain("wordings", "small talk", (), tuple(small_talk))


def _read_list(path: Path) -> Iterator[Tool]:
    value = parse_json(path.read_text(encoding="utf-8"), "the file is not JSON", path.name)
    for listed in value if isinstance(value, list) else value["tools"]:
        tool = Tool.from_dict(listed, path.stem)
        schema = dict(tool.parameters)
        schema["properties"] = {
            name: value for name, value in schema.get("properties", {}).items() if name not in PINNED
        }
        schema["required"] = [name for name in schema.get("required", []) if name not in PINNED]
        yield replace(tool, parameters=schema)
