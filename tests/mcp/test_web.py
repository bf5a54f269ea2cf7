"""Servers over streamable HTTP: the SDK's own, on localhost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from dualtune_mlx.errors import ServerError
from dualtune_mlx.mcp import ServerConfig, Toolbox, connect
from dualtune_mlx.tools import ToolCall
from tests.mcp.conftest import SERVERS, until_listening

pytestmark = pytest.mark.processes

Start = Callable[..., subprocess.Popen[bytes]]
MIB = 2**20
KEY = "Bearer s3cr3t-key"


@pytest.fixture(autouse=True)
def restarts_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualtune_mlx.mcp.connection.FIRST_DELAY", 0.2)


@pytest.fixture
def start(free_port: int) -> Iterator[Start]:
    """Starts the server; it answers when this returns."""
    started = []

    def run(*options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, SERVERS / "web.py", str(free_port), *options])
        started.append(process)
        until_listening(free_port, process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def web(port: int, **fields: object) -> ServerConfig:
    return ServerConfig("web", url=f"http://127.0.0.1:{port}/mcp", **fields)  # type: ignore[arg-type]


def wait_for_tool(toolbox: Toolbox, name: str) -> None:
    """Wait until a toolbox has a tool: over HTTP the news of it and the answer of a call come by different ways."""
    for _ in range(500):
        if name in [tool.name for tool in toolbox.tools]:
            return
        time.sleep(0.01)
    raise AssertionError(f"{name!r} is not among {toolbox.tools}")


def test_two_toolboxes_on_one_server_with_a_key(start: Start, free_port: int) -> None:
    process = start("--key", KEY)
    config = web(free_port, headers={"Authorization": KEY})
    with connect([config]) as one, connect([config]) as other:
        assert one.execute(ToolCall("pid")).text == str(process.pid)
        one.execute(ToolCall("grow"))
        wait_for_tool(one, "new")
        assert one.execute(ToolCall("new")).text == "new"
        assert other.execute(ToolCall("pid")).text == str(process.pid)
    assert process.poll() is None


def test_a_refusal_names_the_status_and_no_key(start: Start, free_port: int) -> None:
    start("--key", "another")
    with pytest.raises(ServerError, match="'web' failed(?s:.*)HTTP 401 Unauthorized") as caught:
        with connect([web(free_port, headers={"Authorization": KEY})]):
            pass
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["events", "json"])
def test_an_answer_beyond_the_limit(start: Start, free_port: int, form: tuple[str, ...]) -> None:
    start(*form)
    with connect([web(free_port, output_limit=3 * MIB)]) as toolbox:
        with pytest.raises(ServerError, match="'web' failed(?s:.*)(3,145,728|3145728)"):
            toolbox.execute(ToolCall("big", {"n": 4}))
        assert len(toolbox.execute(ToolCall("big", {"n": 1})).text) == MIB


def test_nobody_there(free_port: int) -> None:
    url = f"http://user:s3cr3t@127.0.0.1:{free_port}/mcp?key=s3cr3t"
    with pytest.raises(
        ServerError, match=f"'web' could not be reached(?s:.*)check its url: http://127.0.0.1:{free_port}/mcp$"
    ) as caught:
        with connect([ServerConfig("web", url=url)]):
            pass
    assert "s3cr3t" not in str(caught.value)


def test_a_server_that_goes_and_comes(start: Start, free_port: int) -> None:
    first = start()
    with connect([web(free_port)]) as toolbox:
        with pytest.raises(ServerError, match="'web' failed(?s:.*)ended without a response"):
            toolbox.execute(ToolCall("leave"))
        first.wait()
        assert toolbox.servers[0].tools == ()
        second = start()
        while not toolbox.servers[0].tools:
            time.sleep(0.02)
        assert toolbox.execute(ToolCall("pid")).text == str(second.pid)


def test_a_server_that_has_forgotten_the_session(start: Start, free_port: int) -> None:
    first = start()
    with connect([web(free_port)]) as toolbox:
        first.kill()
        first.wait()
        second = start()
        with pytest.raises(ServerError):
            toolbox.execute(ToolCall("pid"))
        while not toolbox.servers[0].tools:
            time.sleep(0.02)
        assert toolbox.execute(ToolCall("pid")).text == str(second.pid)
