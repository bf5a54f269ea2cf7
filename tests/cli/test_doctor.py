"""``doctor --mcp``: the tools of each server, and what cannot be used, with the reasons."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import dualtune

SERVERS = Path(__file__).parents[1] / "mcp" / "servers"
TOOLS = [
    {"name": "fine", "inputSchema": {}},
    {"name": "[red]bad\x1b[0m", "inputSchema": {}},
    {"name": "odd", "inputSchema": {"type": "object", "properties": {"a": {"type": "float"}}}},
]


@pytest.fixture
def mcp(tmp_path) -> Path:
    def entry(script, *args):
        return {"command": sys.executable, "args": [str(SERVERS / f"{script}.py"), *args]}

    servers = {"dead": entry("dies_at_start"), "lists": entry("lists", json.dumps(TOOLS)), "good": entry("good")}
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def test_every_tool_is_listed_and_what_cannot_be_used_with_its_reason(mcp, tmp_path):
    result = dualtune("doctor", "--mcp", mcp, "--json", tmp_path / "doctor.json")
    value = json.loads((tmp_path / "doctor.json").read_text())
    assert {"machine", "MCP"} <= {check["what"] for check in value["checks"]}
    dead, lists, good = value["servers"]
    assert "ended unexpectedly" in dead["failure"] and dead["tools"] == [] and result.exit_code == 1
    assert (lists["name"], lists["address"], lists["failure"]) == ("lists", sys.executable, None)
    assert [(tool["name"], tool["usable"]) for tool in lists["tools"]] == [
        ("fine", True),
        ("[red]bad\\u001b[0m", False),
        ("odd", False),
    ]
    assert lists["tools"][0]["reason"] is None and "'float'" in lists["tools"][2]["reason"]
    assert {"echo", "pid"} <= {tool["name"] for tool in good["tools"]} and good["failure"] is None
    for part in ("server dead", "server lists", "fine", "[red]bad", "odd", "'float'", "echo"):
        assert part in result.output
    assert "\x1b" not in result.output and "Warning" not in result.output


def test_servers_that_can_be_used_are_no_failure(mcp):
    config = json.loads(mcp.read_text())
    del config["mcpServers"]["dead"]
    mcp.write_text(json.dumps(config))
    assert dualtune("doctor", "--mcp", mcp, "--json").exit_code == 0
    mcp.write_text("{")
    assert dualtune("doctor", "--mcp", mcp).exit_code == 2
