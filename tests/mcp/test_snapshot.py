"""A snapshot has the tools that can be used, and says what changed."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx.data import read_tools
from dualtune_mlx.errors import ServerError, ToolError
from dualtune_mlx.mcp import ServerConfig
from dualtune_mlx.mcp.inspection import ServerReport, inspect_servers, report_listing
from dualtune_mlx.mcp.listing import Listing
from dualtune_mlx.mcp.snapshot import snapshot_tools

TEXT = {"type": "string"}


def tool(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object", "properties": properties}}


def report(*tools: Any, **fields: Any) -> ServerReport:
    listing = Listing(ServerConfig("s", "c", **fields))
    for one in tools:
        listing.add(one)
    return report_listing(listing)


def test_what_is_hidden_and_what_is_not_held_to_is_said():
    made = report(
        tool("paint", colour={"type": "string", "format": "color"}, day={"type": "string", "format": "date"}, api=TEXT),
        tool("secret"),
        tool("fine", kind={"type": "string", "format": "color", "enum": ["red"]}),
        pinned={"api": "x"},
        exclude=("secret",),
    )
    assert [(one.name, list(one.parameters["properties"])) for one in made.tools] == [
        ("paint", ["colour", "day"]),
        ("fine", ["kind"]),
    ]
    assert made.notes == {
        "paint": ("hidden by the configuration: api", "colour is not held to the format 'color'"),
    }
    assert made.excluded == ("secret",)
    rows = made.to_dict()
    assert rows["excluded"] == ["secret"] and rows["tools"][0]["notes"] == list(made.notes["paint"])


def test_what_data_files_cannot_have_is_set_aside(tmp_path):
    beside = {"name": "beside", "inputSchema": {"type": "object", "path": {"type": "string"}}}
    listing = Listing(ServerConfig(""))
    for one in (beside, tool("respond"), tool("fine")):
        listing.add(one)
    made = report_listing(listing)
    assert list(made.set_aside) == ["beside", "respond"] and [one.name for one in made.tools] == ["fine"]
    snapshot_tools([made], tmp_path)
    assert read_tools(tmp_path / "tools.json") == made.tools


def test_a_second_snapshot_says_what_changed(tmp_path):
    first = snapshot_tools([report(tool("a"), tool("b", "Old."), tool("c", x=TEXT))], tmp_path)
    assert first.changes is None and first.to_dict()["changes"] is None
    again = snapshot_tools([report(tool("a"), tool("b", "Old."), tool("c", x=TEXT))], tmp_path)
    assert not again.changes and again.reworded == ()
    now = snapshot_tools([report(tool("b", "New."), tool("c", x=TEXT, y=TEXT), tool("d"))], tmp_path)
    changes = now.to_dict()["changes"]
    assert {kind: [one["name"] for one in tools] for kind, tools in changes.items()} == {
        "untrained": ["d"],
        "changed": ["c"],
        "gone": ["a"],
        "reworded": ["b"],
    }
    assert [one.name for one in read_tools(tmp_path / "tools.json")] == ["b", "c", "d"]


def test_nothing_is_written_when_a_server_failed_or_no_tool_can_be_used(tmp_path):
    failed = ServerReport(ServerConfig("s", "c"), failure=ServerError("it ended"))
    with pytest.raises(ServerError, match="it ended"):
        snapshot_tools([report(tool("a")), failed], tmp_path)
    with pytest.raises(ToolError, match="no tool can be used"):
        snapshot_tools([report("no tool")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_servers_that_run_are_looked_at(server, tmp_path):
    (made,) = inspect_servers([server("good", "--broken", pinned={"folder": "f"}, exclude=("die",))])
    assert made.excluded == ("die",) and list(made.set_aside) == ["broken"]
    assert made.notes == {"echo": ("hidden by the configuration: folder",)}
    assert "echo" in {one.name for one in snapshot_tools([made], tmp_path).tools}
