"""``data tools``: the snapshot as a command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dualtune_mlx.data.values import read_values
from tests.cli.conftest import TOOLS, dualtune

SERVERS = Path(__file__).parents[1] / "mcp" / "servers"


def snapshot(tmp_path: Path, tools: list[dict], *more: object):
    (tmp_path / "list.json").write_text(json.dumps({"tools": tools}))
    return dualtune("data", "tools", "--tools", tmp_path / "list.json", "--data", tmp_path / "data", *more)


def test_a_list_becomes_the_tools_of_a_folder_and_the_rest_is_named(tmp_path):
    odd = {"name": "odd", "inputSchema": {"type": "object", "properties": {"a": {"type": "float"}}}}
    value = json.loads(snapshot(tmp_path, [*TOOLS, odd], "--json").stdout)
    assert (value["count"], value["changes"], value["file"]) == (3, None, str(tmp_path / "data" / "tools.json"))
    assert [(one["name"], [tool["usable"] for tool in one["tools"]]) for one in value["servers"]] == [
        ("fs", [True, True]),
        ("clock", [True]),
        ("", [False]),
    ]
    written = json.loads((tmp_path / "data" / "tools.json").read_text())
    assert [(tool["server"], tool["function"]["name"]) for tool in written] == [
        (tool["server"], tool["name"]) for tool in TOOLS
    ]


def test_the_table_says_what_is_wrong_and_what_changed(tmp_path):
    first = snapshot(tmp_path, [*TOOLS, {"name": "a\x1bb"}])
    assert "3 tools written to" in first.output and "a\\u001bb" in first.output and "\x1b" not in first.output
    assert "nothing changed" in snapshot(tmp_path, TOOLS).output
    reworded = {**TOOLS[0], "description": "Show a file."}
    then = snapshot(tmp_path, [reworded, TOOLS[1], {"name": "new", "server": "clock"}]).output
    for line in ("new: clock/new", "described otherwise: fs/read_file", "gone: clock/now"):
        assert line in then


def test_running_servers_are_listed_and_a_failing_one_writes_nothing(tmp_path):
    def entry(script: str, *args: str) -> dict:
        return {"command": sys.executable, "args": [str(SERVERS / f"{script}.py"), *args]}

    servers = {"lists": entry("lists", json.dumps([{"name": "fine"}])), "dead": entry("dies_at_start")}
    mcp = tmp_path / "mcp.json"
    mcp.write_text(json.dumps({"mcpServers": servers}))
    failed = dualtune("data", "tools", "--mcp", mcp, "--data", tmp_path / "data", "--json", tmp_path / "out.json")
    assert failed.exit_code == 1 and "Nothing is written" in failed.output and not (tmp_path / "data").exists()
    assert json.loads((tmp_path / "out.json").read_text())["servers"][1]["failure"]
    servers["dead"]["disabled"] = True
    mcp.write_text(json.dumps({"mcpServers": servers}))
    fine = dualtune("data", "tools", "--mcp", mcp, "--data", tmp_path / "data")
    assert fine.exit_code == 0 and (tmp_path / "data" / "tools.json").exists()


def test_what_the_servers_hold_is_looked_at_when_asked_for(tmp_path):
    reads = {"annotations": {"readOnlyHint": True}}
    page = {"type": "object", "properties": {"path": {"type": "string", "default": "docs/a.txt"}}, "required": ["path"]}
    tools = [{"name": "page", "inputSchema": page, **reads}, {"name": "read", "inputSchema": page}]
    mcp, data = tmp_path / "mcp.json", tmp_path / "data"
    command = {"command": sys.executable, "args": [str(SERVERS / "lists.py"), json.dumps(tools)]}
    mcp.write_text(json.dumps({"mcpServers": {"s": command}}))
    assert "only read" not in dualtune("data", "tools", "--mcp", mcp, "--data", data).output
    assert not (data / "values.json").exists()
    result = dualtune("data", "tools", "--mcp", mcp, "--data", data, "--look", "--json", tmp_path / "out.json")
    assert "1 call that only reads: s/page" in result.output
    value = json.loads((tmp_path / "out.json").read_text())
    assert value["looked"] == [{"server": "s", "name": "page", "failure": None}] and value["values"]["path"] == 1
    assert read_values(data)["s/read/path"] == ["docs/a.txt"]
    (tmp_path / "list.json").write_text(json.dumps(tools))
    assert dualtune("data", "tools", "--tools", tmp_path / "list.json", "--data", data, "--look").exit_code == 2


@pytest.mark.parametrize("given", [(), ("--mcp", "a", "--tools", "b")])
def test_one_source_is_given(tmp_path, given):
    assert dualtune("data", "tools", "--data", tmp_path, *given).exit_code == 2
