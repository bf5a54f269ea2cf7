"""What other hosts write in a server's entry is obeyed, or refused by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.mcp import ApprovalPolicy, ServerConfig, connect, read_config
from dualtune_mlx.tools import Tool, ToolCall

Read = Callable[..., tuple[ServerConfig, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a file with one server of these keys, beside a command; ``root`` has the keys beside the servers."""

    def from_entry(root: dict[str, Any] | None = None, **keys: Any) -> tuple[ServerConfig, ...]:
        path = tmp_path / "mcp.json"
        path.write_text(json.dumps({"mcpServers": {"a": {"command": "c", **keys}}, **(root or {})}))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_config(path)

    return from_entry


@pytest.mark.parametrize(
    ("keys", "runs"),
    [
        ({"disabled": True}, False),
        ({"disabled": False}, True),
        ({"enabled": False}, False),
        ({"enabled": True}, True),
        ({"isActive": False}, False),
        ({"isActive": True, "disabled": False}, True),
        ({"disabled": None}, True),
        ({"enabled": False, "trust": True, "envFile": ".env", "command": 5}, False),
    ],
)
def test_a_server_that_is_switched_off_is_not_there(read: Read, keys: dict[str, Any], runs: bool) -> None:
    assert len(read(**keys)) == runs


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ({"disabledTools": ["x"], "excludeTools": ["y"]}, "exclude", ("x", "y")),
        ({"disabled_tools": ["x"], "dualtune": {"exclude": ["z"]}}, "exclude", ("x", "z")),
        ({"includeTools": ["y", "x"]}, "include", ("x", "y")),
        ({"enabled_tools": ["x"], "tools": ["x", "y"]}, "include", ("x",)),
        ({"tools": ["*"]}, "include", None),
        ({"tools": []}, "include", ()),
        ({"autoApprove": ["x"], "alwaysAllow": ["y"], "dualtune": {"allow": ["z"]}}, "allow", ("x", "y", "z")),
        ({"autoApprove": []}, "allow", ()),
        ({"timeout": 60}, "timeout", 60),
        ({"timeout": 30_000}, "timeout", 30),
        ({"timeout": 30_000, "dualtune": {"timeout": 5}}, "timeout", 5),
        ({"timeout": 2_000, "dualtune": {"timeout": 5}}, "timeout", 5),
        ({"url": None, "headers": {}, "cwd": None}, "command", "c"),
        ({"command": "", "url": "http://h/mcp", "args": [], "env": {}}, "url", "http://h/mcp"),
        ({"command": None, "serverUrl": "http://h/mcp"}, "url", "http://h/mcp"),
        ({"command": None, "httpUrl": "http://h/mcp", "headers": {"K": "v"}}, "url", "http://h/mcp"),
        ({"type": "local"}, "command", "c"),
        ({"command": None, "type": "streamable_http", "url": "http://h/mcp"}, "url", "http://h/mcp"),
        ({"trust": False, "description": "d", "icon": "i", "//": "c", "version": "1"}, "command", "c"),
        ({"dev": {"watch": "*.py"}, "envFile": ".env", "dualtune": {"ignore": ["dev", "envFile"]}}, "command", "c"),
    ],
)
def test_is_obeyed(read: Read, keys: dict[str, Any], field: str, value: Any) -> None:
    (config,) = read(**keys)
    assert getattr(config, field) == value


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"disabled": False, "enabled": False}, ["switched on and off", "disabled, enabled"]),
        ({"enabled": "no"}, ["'enabled'", "true or false"]),
        ({"envFile": ".env"}, ["not obeyed", "got: envFile", '"env"']),
        ({"trust": True}, ["not obeyed", "got: trust", '"allow"']),
        ({"oauth": {"clientId": "s3cr3t"}}, ["not obeyed", "got: oauth", '"headers"']),
        ({"sandboxEnabled": True, "dev": {"watch": "s3cr3t"}}, ["got: sandboxEnabled, dev", "its command", "ignore"]),
        ({"somethingNew": False}, ["not obeyed", "got: somethingNew", '"ignore"']),
        ({"disabledTools": "x"}, ["'disabledTools'", "a list"]),
        ({"tools": {"x": {"enabled": False}}}, ["'tools'", "expected: a list"]),
        ({"autoApprove": True}, ["'autoApprove'", "a list"]),
        ({"timeout": 2_000}, ["seconds or in milliseconds", "got: 2000", '"dualtune"']),
        ({"timeout": "60"}, ["'timeout'", "a string"]),
        ({"timeout": 0}, ["'timeout'", "a positive number"]),
        ({"url": "http://h/mcp"}, ["several addresses"]),
        ({"command": None, "url": "http://h/mcp", "httpUrl": "http://h/mcp"}, ["several addresses"]),
        ({"type": "http"}, ["no url"]),
        ({"headers": {"K": "s3cr3t"}}, ["'command' takes no 'headers'"]),
        ({"command": None, "url": "http://h/mcp", "env": {"K": "s3cr3t"}}, ["'url' takes no 'env'"]),
        ({"dualtune": {"ignore": ["devv"]}}, ["'ignore'", "got: devv"]),
        ({"root": {"servers": {}}}, ["two lists of servers"]),
        ({"root": {"mcp": {"allowed": ["b"]}}}, ["mcp.allowed", '"disabled": true']),
        ({"root": {"disabledMcpjsonServers": ["a"]}}, ["disabledMcpjsonServers"]),
        ({"root": {"sandbox": {"network": "none"}}}, ["sandbox"]),
    ],
)
def test_is_refused_by_name(read: Read, keys: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(**keys)
    for part in ["mcp.json", *parts]:
        assert part in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_settings_of_other_things_beside_the_servers_are_passed_over(read: Read) -> None:
    assert len(read(root={"inputs": [], "theme": "dark", "mcp": {}, "disabledMcpServers": []})) == 1


def test_only_included_tools_are_offered(server: Callable[..., ServerConfig]) -> None:
    with connect([server("good", include=("pid", "add"), exclude=("add",))]) as toolbox:
        assert [tool.name for tool in toolbox.tools] == ["pid"]
        with pytest.raises(ToolError, match="no server has the tool"):
            toolbox.execute(ToolCall("fail"))
    with pytest.raises(UsageError, match="included tools(?s:.*)got: pit"), connect([server("good", include=("pit",))]):
        pass


def test_what_another_host_may_call_unasked_runs_unasked(read: Read) -> None:
    policy = ApprovalPolicy(read(autoApprove=["x"]))
    assert [policy.verdict(Tool(name, server="a")).action for name in "xy"] == ["run", "ask"]
