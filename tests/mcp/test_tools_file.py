"""Files of tools are read as their servers would list them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.mcp.tools_file import read_listings
from dualtune_mlx.tools import Tool

PATH = {"type": "object", "properties": {"path": {"type": "string"}}}
READ = {"name": "read", "description": "Reads.", "inputSchema": PATH, "title": "Read", "outputSchema": 5}
NOW = {"name": "now"}
TOOLS = [Tool("read", "Reads.", PATH), Tool("now")]


def write(folder: Path, value: Any) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    "value",
    [
        {"tools": [READ, NOW]},
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": [READ, NOW]}},
        [{"tools": [READ], "nextCursor": "2"}, {"tools": [NOW]}],
        [{"result": {"tools": [READ]}}, {"result": {"tools": [NOW]}}],
        [READ, NOW],
        [{"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": PATH}}, NOW],
        [tool.to_dict() for tool in TOOLS],
    ],
    ids=["answer", "JSON-RPC", "pages", "pages of JSON-RPC", "a list", "OpenAI's", "ours"],
)
def test_every_form_gives_the_same_tools(tmp_path, value):
    (listing,) = read_listings(write(tmp_path, value))
    read = [(tool.name, tool.description, tool.parameters.get("properties", {})) for tool in listing.shown]
    assert read == [(tool.name, tool.description, tool.parameters["properties"]) for tool in TOOLS]


def test_servers_and_groups_are_kept(tmp_path):
    mixed = [{**READ, "server": "fs", "group": "reading"}, {"function": NOW, "server": "clock"}]
    fs, clock = read_listings(write(tmp_path, mixed))
    assert [(t.server, t.group, t.name) for t in (*fs.shown, *clock.shown)] == [
        ("fs", "reading", "read"),
        ("clock", "", "now"),
    ]
    (one,) = read_listings(write(tmp_path, {"server": "fs", "tools": [READ, NOW]}))
    assert {tool.server for tool in one.shown} == {"fs"}


def test_a_tool_that_cannot_be_used_is_set_aside_alone(tmp_path):
    odd = [
        {"function": "none"},
        {"name": "bad", "inputSchema": {"type": "array"}},
        NOW,
        "text",
        {"name": "now", "a": 1},
    ]
    (listing,) = read_listings(write(tmp_path, odd))
    assert [tool.name for tool in listing.shown] == ["now"] and len(listing.set_aside) == 3


@pytest.mark.parametrize("value", [{"tools": []}, [], {"tools": {}}, 5, {"servers": []}])
def test_what_holds_no_tools_is_refused(tmp_path, value):
    with pytest.raises(DataError, match="holds no"):
        read_listings(write(tmp_path, value))


def test_a_list_that_is_cut_off_is_refused(tmp_path):
    with pytest.raises(DataError, match="first of several pages"):
        read_listings(write(tmp_path, {"tools": [READ], "nextCursor": "2"}))
    with pytest.raises(UsageError):
        read_listings(tmp_path / "none.json")
