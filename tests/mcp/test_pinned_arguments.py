from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp import ServerConfig, connect
from dualtune_mlx.mcp.pinned_arguments import fill_pinned, hide_arguments
from dualtune_mlx.mcp.tool_checks import check_configured_names
from dualtune_mlx.tools import Tool, ToolCall

SCHEMA = {
    "type": "object",
    "properties": {"repo": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["repo", "count"],
    "additionalProperties": False,
}
TOOL = Tool("log", "Shows commits.", SCHEMA, server="git")
PINNED = {"repo": "/repo", "elsewhere": 1}


def test_pinned_arguments_are_hidden_and_the_rest_is_kept() -> None:
    tool = hide_arguments(TOOL, PINNED)
    assert tool.parameters == {
        "type": "object",
        "properties": {"count": {"type": "integer"}},
        "required": ["count"],
        "additionalProperties": False,
    }
    assert (tool.name, tool.description, tool.server) == ("log", "Shows commits.", "git")
    assert "repo" in TOOL.parameters["properties"]


def test_a_tool_whose_arguments_are_all_pinned_takes_none() -> None:
    assert not hide_arguments(TOOL, {"repo": "/repo", "count": 1}).takes_arguments


def test_a_tool_without_the_pinned_argument_stays_itself() -> None:
    other = Tool("now")
    assert hide_arguments(other, PINNED) is other
    assert fill_pinned({"a": 1}, other, PINNED) == {"a": 1}


def test_a_pinned_value_wins_over_the_models() -> None:
    assert fill_pinned({"count": 2, "repo": "/etc"}, TOOL, PINNED) == {"count": 2, "repo": "/repo"}


def test_unknown_names_are_refused() -> None:
    check_configured_names("pinned arguments", ["a"], ["a", "b"], "git")
    with pytest.raises(UsageError, match="server 'git'(?s:.*)got: c(?s:.*)one of a, b"):
        check_configured_names("pinned arguments", ["c"], ["a", "b"], "git")


def test_a_server_gets_the_pin_wherever_the_argument_may_stand(server: Callable[..., ServerConfig]) -> None:
    commit = {"properties": {"repo": {"type": "string"}, "msg": {"type": "string"}}, "required": ["repo", "msg"]}
    schemas: list[dict[str, Any]] = [{"anyOf": [commit]}, {"$ref": "#/$defs/c", "$defs": {"c": commit}}, {}]
    tools = [{"name": f"t{n}", "inputSchema": {"type": "object", **one}} for n, one in enumerate(schemas)]
    with connect([server("lists", json.dumps(tools), pinned={"repo": "/srv/repo"})]) as toolbox:
        assert "repo" not in json.dumps([tool.to_dict() for tool in toolbox.tools])
        for tool in toolbox.tools:
            sent = toolbox.execute(ToolCall(tool.name, {"repo": "/etc", "msg": "fix"})).text
            assert json.loads(sent) == {"repo": "/srv/repo", "msg": "fix"}


def test_a_pin_that_a_tool_does_not_take_is_refused_with_the_tool(server: Callable[..., ServerConfig]) -> None:
    tools = [{"name": "log", "inputSchema": {"anyOf": [{"properties": {"repo": {"type": "integer"}}}]}}]
    with pytest.raises(UsageError, match="leave no call(?s:.*)lists/log(?s:.*)repo(?s:.*)exclude"):
        with connect([server("lists", json.dumps(tools), pinned={"repo": "/srv/repo"})]):
            pass
