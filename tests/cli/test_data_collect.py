"""``data collect``: a fake engine at real servers."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from dualtune_mlx.cli.data import collect as command
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.demo.servers import find_program, npm_server
from dualtune_mlx.engine.events import Done
from dualtune_mlx.tools import ToolCall
from tests.agent.fakes import Engine
from tests.cli.conftest import dualtune

SERVERS = Path(__file__).parents[1] / "mcp" / "servers"
RESPOND = ToolCall("respond")


@pytest.fixture
def collect(monkeypatch, tmp_path):
    def run(servers: dict, calls: list[ToolCall], requests: str, *more: object, engine: type[Engine] = Engine):
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
        (tmp_path / "requests.txt").write_text(requests)
        monkeypatch.setattr(command.DualTune, "load", lambda *_, **__: nullcontext(engine(*calls)))
        where = ["--mcp", tmp_path / "mcp.json", "--data", tmp_path / "data", "--requests", tmp_path / "requests.txt"]
        return dualtune("data", "collect", *where, "--bundle", "b", *more)

    return run


class InCopy(Engine):
    """Makes its calls in the folder that the request names at its end, which is the copy."""

    def stream(self, messages, tools, **options):
        copy = messages[0].content.rpartition(" in ")[2]
        for event in super().stream(messages, tools, **options):
            if isinstance(event, Done):
                arguments = {name: f"{copy}/{Path(path).name}" for name, path in event.call.arguments.items()}
                event = Done(replace(event.call, arguments=arguments))
            yield event


def fake(*tools: dict) -> dict:
    return {"s": {"command": sys.executable, "args": [str(SERVERS / "lists.py"), json.dumps(tools)]}}


def test_only_tools_that_only_read_are_called_without_a_scratch_copy(collect, tmp_path):
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    servers = fake(
        {"name": "read", "annotations": {"readOnlyHint": True}, "inputSchema": schema},
        {"name": "write", "annotations": {"readOnlyHint": False, "destructiveHint": False}, "inputSchema": schema},
    )
    calls = [ToolCall("read", {"path": "a"}, "s"), RESPOND, ToolCall("write", {"path": "a"}, "s"), RESPOND]
    result = collect(servers, calls, "read a\nwrite a\n", "--json", tmp_path / "out.json")
    assert result.exit_code == 0 and "2 requests: 1 kept" in result.output
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["request"], row["kept"], row["reason"]) for row in rows] == [
        ("read a", True, None),
        ("write a", False, "no_call"),
    ]
    assert len(read_trajectories(tmp_path / "data" / "trajectories.jsonl")) == 1
    assert "0 requests: 0 kept" in collect(servers, [], "read a\nwrite a\n").output


def test_everything_is_approved_in_a_scratch_copy_alone(collect, tmp_path):
    assert collect({}, [], "x", "--approve", "all").exit_code == 2
    assert collect(fake({"name": "read"}), [], "x", "--scratch", tmp_path).exit_code == 2, "no server names it"


@pytest.mark.servers
def test_files_are_changed_in_the_copy_and_calls_are_repaired(collect, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "plan.txt").write_text("garden")
    script = npm_server("server-filesystem", "2026.8.31")
    servers = {"fs": {"command": find_program("node"), "args": [str(script), str(folder)]}}
    moved = {"source": str(folder / "plan.txt"), "destination": str(folder / "old.txt")}
    wrong, right = ({"path": str(folder / name)} for name in ("plan", "old.txt"))

    calls = [
        *(ToolCall("move_file", moved, "fs"), ToolCall("read_text_file", wrong, "fs")),
        *(ToolCall("read_text_file", right, "fs"), RESPOND),
    ]
    says = f"keep the old plan, and show it, in {folder}"
    result = collect(servers, calls, says, "--scratch", folder, "--approve", "all", engine=InCopy)
    assert "1 request: 1 kept" in result.output, result.output
    (trajectory,) = read_trajectories(tmp_path / "data" / "trajectories.jsonl")
    made = [(one.tool_calls[0].name, one.weight) for one in trajectory.messages if one.tool_calls]
    assert made == [("move_file", 1), ("read_text_file", 0), ("read_text_file", 1)]
    assert trajectory.messages[1].tool_calls[0].arguments == moved and trajectory.messages[6].content == "garden"
    assert "dualtune-scratch" not in (tmp_path / "data" / "trajectories.jsonl").read_text()
    assert [path.name for path in folder.iterdir()] == ["plan.txt"], "only the copy was changed"
