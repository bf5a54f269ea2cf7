"""Only tools that only read are called, once, and only what the configuration lets run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dualtune_mlx.mcp import ApprovalPolicy, connect
from dualtune_mlx.mcp.looking import look, observe_servers, plan_looks
from dualtune_mlx.mcp.rules import Rule
from dualtune_mlx.tools import ToolCall

READS = {"readOnlyHint": True}
PATH = {"path": {"type": "string"}}


def tool(name: str, hints: Any = READS, required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required or []}
    return {"name": name, "annotations": hints, "inputSchema": schema}


TOOLS = [
    tool("list"),
    tool("page", required=["size"], size={"type": "integer", "default": 20}),
    tool("pinned", required=["path"], **PATH),
    tool("needs", required=["what"], what={"type": "string"}),
    tool("writes", {"readOnlyHint": False}),
    tool("unhinted", None),
    tool("both", {"readOnlyHint": True, "destructiveHint": True}),
]


@pytest.fixture
def named(server) -> Callable[..., list[str]]:
    def names(**fields: Any) -> list[str]:
        configs = [server("lists", json.dumps(TOOLS), name="s", **fields)]
        with connect(configs) as toolbox:
            return [one.call.name for one in plan_looks(toolbox, ApprovalPolicy(configs, "auto"))]

    return names


def test_only_tools_that_only_read_and_need_nothing_are_called(named):
    assert named() == ["list", "page"]
    assert named(pinned={"path": "docs"}) == ["list", "page", "pinned"]
    assert named(exclude=("list",)) == ["page"]
    assert named(approve="ask") == named(approve="never") == []
    assert named(approve="ask", allow=("list", "writes")) == ["list"]


def test_a_call_that_a_rule_forbids_is_not_made(named):
    assert named(rules=(Rule(("size",), pattern="5"),)) == ["list"]


def test_calls_are_announced_made_and_read(server):
    announced: list[Any] = []
    config = server("lists", json.dumps(TOOLS), name="s", pinned={"path": "docs/a.txt"})
    looks, observed = observe_servers([config], announced.extend)
    assert [call.name for call in announced] == ["list", "page", "pinned"] == [one.call.name for one in looks]
    assert all(one.failure == "" for one in looks) and observed.values["path"] == ["docs/a.txt"]

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe_servers([config], stop)


def test_a_call_that_fails_or_hangs_is_said(server, monkeypatch):
    monkeypatch.setattr("dualtune_mlx.mcp.looking.CALL_SECONDS", 0.3)
    with connect([server("good", name="s")]) as toolbox:
        calls = [toolbox.prepare(ToolCall(name, {}, "s")) for name in ("silence", "fail", "pid")]
        rows = {one.call.name: one.to_dict()["failure"] for one in look(toolbox, calls)}
    assert rows == {"pid": None, "fail": "it answered with an error", "silence": "it took too long"}


def test_nothing_is_called_when_there_is_no_time_left(server, monkeypatch):
    monkeypatch.setattr("dualtune_mlx.mcp.looking.SECONDS", 0.0)
    config = server("lists", json.dumps(TOOLS), name="s")
    looks, observed = observe_servers([config], lambda calls: None)
    assert [one.failure for one in looks] == ["there was no time left"] * 2 and observed.values == {}
