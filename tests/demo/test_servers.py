"""That a server is installed once and whole, or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dualtune_mlx.demo import servers
from dualtune_mlx.errors import ServerError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path))
    return tmp_path / "servers"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that an installation runs; npm and venv only leave the file that is asked for."""
    ran: list[list[str]] = []

    def run(command: list[str], folder: Path) -> None:
        ran.append(command)
        for entry in ("bin/python", "node_modules/@modelcontextprotocol/server-memory/dist/index.js"):
            (folder / entry).parent.mkdir(parents=True, exist_ok=True)
            (folder / entry).touch()

    monkeypatch.setattr(servers, "run_program", run)
    monkeypatch.setattr(servers, "find_program", lambda name: name)
    return ran


def test_npm_installs_the_version_once(cache: Path, commands: list[list[str]]) -> None:
    script, again = (servers.npm_server("server-memory", "1.2.3") for _ in range(2))
    assert script == again and script.is_file() and script.is_relative_to(cache / "server-memory-1.2.3")
    assert [command[-1] for command in commands] == ["@modelcontextprotocol/server-memory@1.2.3"]
    servers.npm_server("server-memory", "1.2.4")
    assert len(commands) == 2


def test_a_python_server_has_an_environment_of_its_own(cache: Path, commands: list[list[str]]) -> None:
    python = servers.python_server("some-server==1.0", "mcp==1.30.0")
    assert python == cache / "some-server-1.0-mcp-1.30.0" / "bin" / "python"
    assert servers.python_server("some-server==1.0", "mcp==1.30.0") == python
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert commands[1][-2:] == ["some-server==1.0", "mcp==1.30.0"]


def test_a_failed_installation_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [sys.executable, "-c", "open('left', 'w'); raise SystemExit('no network')"]
    run = servers.run_program
    monkeypatch.setattr(servers, "run_program", lambda _, folder: run(fails, folder))
    with pytest.raises(ServerError, match="failed") as caught:
        servers.python_server("some-server==1.0")
    assert caught.value.got == "no network"
    assert [path.name for path in cache.iterdir()] == [".lock"]
