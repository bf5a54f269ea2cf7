"""Against real processes: fake servers that behave, and others that do not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from dualtune_mlx.errors import DualTuneError, ServerError, ToolError, UsageError
from dualtune_mlx.mcp import ServerConfig, aconnect, connect
from dualtune_mlx.tools import ToolCall
from tests.mcp.conftest import INTERRUPTIBLE

pytestmark = pytest.mark.processes

Make = Callable[..., ServerConfig]
Alive = Callable[[int], bool]
PINNED = {"folder": "/data"}


def script(config: ServerConfig, body: str) -> str:
    """A program with ``config`` at hand, for what must be seen from outside: signals and the terminal."""
    return (
        "import anyio, time\n"
        "from dualtune_mlx.mcp import ServerConfig, aconnect, connect\n"
        "from dualtune_mlx.tools import ToolCall\n"
        f"config = ServerConfig('good', {config.command!r}, {config.args!r})\n"
    ) + body


def test_lists_all_pages_with_every_shape_of_schema(server: Make) -> None:
    with connect([server("good", pinned=PINNED, exclude=("die",)), server("good", name="other")]) as toolbox:
        good, other = toolbox.servers
        assert [tool.name for tool in good.tools] == [tool.name for tool in other.tools if tool.name != "die"]
        assert {tool.server for tool in other.tools} == {"other"}
        shown = {tool.name: tool.parameters for tool in good.tools}
        assert shown["echo"]["properties"] == {"text": {"type": "string"}} and shown["echo"]["required"] == ["text"]
        assert shown["add"]["$defs"] == {"number": {"type": "integer"}}
        assert shown["either"]["type"] == "object" and shown["fail"] == {"type": "object"}


def test_tools_are_in_their_configured_groups(server: Make) -> None:
    groups = {"talk": ("echo",), "ends": ("die", "silence")}
    with connect([server("good", pinned=PINNED, exclude=("die",), groups=groups)]) as toolbox:
        found = {tool.name: tool.group for tool in toolbox.servers[0].tools}
    assert (found["echo"], found["silence"], found["add"]) == ("talk", "ends", "") and "die" not in found


def test_calls(server: Make) -> None:
    with connect([server("good", pinned=PINNED), server("good", name="other")]) as toolbox:
        echo = toolbox.execute(ToolCall("echo", {"text": "héllo ✓"}, "good"))
        assert (echo.server, echo.tool, echo.text, echo.is_error) == ("good", "echo", "/data: héllo ✓", False)
        assert echo.content == ({"type": "text", "text": "/data: héllo ✓"},) and 0 < echo.seconds < 5
        assert toolbox.execute(ToolCall("add", {"a": 1, "b": 2}, "other")).structured == {"sum": 3}
        fail = toolbox.execute(ToolCall("fail", {}, "good"))
        assert fail.is_error and fail.text == "fail went wrong"
        assert toolbox.execute(ToolCall("refuse", {}, "good")).text == "refuse went wrong"


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (ToolCall("add", {"a": "one"}, "good"), ["not of type 'integer'", "good/add at $.a", 'got: "one"']),
        (ToolCall("add", {"b": 1}, "good"), ["'a' is a required property", "good/add at $"]),
        (ToolCall("either", {"x": 1}), ["good/either at $.x", "got: 1"]),
        (ToolCall("either", {"x": "\ud800"}), ["cannot be written as JSON", "good/either"]),
        (ToolCall("add", {"a": float("nan")}), ["cannot be written as JSON"]),
        (ToolCall("die"), ["no server has the tool", "good/echo"]),
        (ToolCall("echo", {}, "nobody"), ["no server has the tool", "'nobody'"]),
        (ToolCall("respond"), ["no server has the tool"]),
    ],
)
def test_a_wrong_call_is_refused_before_it_is_sent(server: Make, call: ToolCall, parts: list[str]) -> None:
    with connect([server("good", exclude=("die",))]) as toolbox:
        with pytest.raises(ToolError) as caught:
            toolbox.execute(call)
        for part in parts:
            assert part in str(caught.value)
        assert toolbox.execute(ToolCall("add", {"a": 1})).text == "1"


def test_an_ambiguous_call_is_refused(server: Make) -> None:
    with connect([server("good"), server("good", name="other")]) as toolbox:
        with pytest.raises(ToolError, match="several servers"):
            toolbox.execute(ToolCall("pid"))


@pytest.mark.parametrize(
    ("approve", "approved", "refusal"),
    [("auto", False, ""), ("ask", True, ""), ("ask", False, "not approved"), ("never", True, "may not be called")],
)
def test_what_needs_approval_is_not_called_without(server: Make, approve: str, approved: bool, refusal: str) -> None:
    with connect([server("good", approve=approve)]) as toolbox:
        if refusal:
            with pytest.raises(ToolError, match=f"{refusal}(?s:.*)good/pid"):
                toolbox.execute(ToolCall("pid"), approved)
        else:
            assert toolbox.execute(ToolCall("pid"), approved).text.isdigit()


def test_a_closed_toolbox_says_so(server: Make) -> None:
    with connect([server("good")]) as toolbox:
        pass
    with pytest.raises(DualTuneError, match="the toolbox is closed"):
        toolbox.execute(ToolCall("pid"))


@pytest.mark.parametrize("fields", [{"pinned": {"path": 1}}, {"exclude": ("nothing",)}])
def test_a_pin_or_exclusion_without_object_is_refused(server: Make, fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not have(?s:.*)server 'good'"):
        with connect([server("good", **fields)]):
            pass


def test_noise_on_stdout_is_tolerated_and_stays_off_our_terminal(server: Make) -> None:
    body = "with connect([config]) as toolbox: print(toolbox.execute(ToolCall('add', {'a': 2})).text)"
    code = script(server("good", "--noise"), body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_server_of_the_new_protocol_alone_and_its_changes(server: Make) -> None:
    with connect([server("modern_only")]) as toolbox:
        assert toolbox.execute(ToolCall("ping")).text == "2026-07-28"
        assert [tool.name for tool in toolbox.servers[0].tools] == ["ping", "ping1"]


def test_death_at_start_is_told_at_once_with_stderr_but_no_secrets(
    server: Make, tmp_path: Path, is_alive: Alive
) -> None:
    started, pid = time.perf_counter(), tmp_path / "pid"
    with pytest.raises(ServerError) as caught:
        with connect([server("never_answers", str(pid)), server("dies_at_start", env={"TOKEN": "s3cr3t"})]):
            pass
    assert time.perf_counter() - started < 3
    text = str(caught.value)
    assert "server 'dies_at_start' ended unexpectedly" in text and "KeyError: no such account, token <TOKEN>" in text
    assert "s3cr3t" not in text and text.count("many lines") < 10
    assert not pid.exists() or not is_alive(int(pid.read_text()))


def test_a_refusal_is_told_without_secrets(server: Make) -> None:
    with pytest.raises(ServerError, match="server 'refuses' failed(?s:.*)no licence for <TOKEN>"):
        with connect([server("refuses", env={"TOKEN": "s3cr3t"})]):
            pass


def test_silence_ends_at_the_timeout(server: Make, tmp_path: Path, is_alive: Alive) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(ServerError, match="'never_answers' did not answer within 0.5 s"):
        with connect([server("never_answers", str(pid))], timeout=0.5):
            pass
    assert not is_alive(int(pid.read_text()))


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF, or not")
    program.chmod(0o755)
    with pytest.raises(ServerError, match="'bad' could not be started"):
        with connect([ServerConfig("bad", str(program))]):
            pass


def test_death_in_a_call_is_told_and_the_others_go_on(server: Make) -> None:
    with connect([server("good", env={"TOKEN": "s3cr3t"}), server("good", name="other")]) as toolbox:
        for said in ("good, call of 'die'", "server 'good' is not running"):
            with pytest.raises(ServerError, match=said) as caught:
                toolbox.execute(ToolCall("die", {}, "good"))
            assert "the disk is full, token <TOKEN>" in str(caught.value) and "s3cr3t" not in str(caught.value)
        assert toolbox.execute(ToolCall("add", {"a": 1}, "other")).text == "1"


@pytest.mark.anyio
async def test_silence_in_a_call_ends_at_the_timeout(server: Make) -> None:
    async with aconnect([server("good")], timeout=0.7) as toolbox:
        with pytest.raises(ServerError, match="did not answer within 0.7 s(?s:.*)call of 'silence'"):
            await toolbox.aexecute(ToolCall("silence"))
        assert (await toolbox.aexecute(ToolCall("add", {"a": 1}))).text == "1"


@pytest.mark.anyio
async def test_a_cancelled_call_leaves_the_server_as_it_was(server: Make) -> None:
    async with aconnect([server("good")]) as toolbox:
        pid = (await toolbox.aexecute(ToolCall("pid"))).text
        for _ in range(2):
            with anyio.move_on_after(0.2) as scope:
                await toolbox.aexecute(ToolCall("silence"))
            assert scope.cancelled_caught
        assert (await toolbox.aexecute(ToolCall("pid"))).text == pid and not toolbox.failures


@pytest.mark.anyio
async def test_an_asynchronous_call_has_a_limit_of_its_own_and_ends_with_its_toolbox(server: Make) -> None:
    async with aconnect([server("good")]) as toolbox:
        with pytest.raises(TimeoutError):
            await toolbox.aexecute(ToolCall("silence"), timeout=0.2)
        waiting = asyncio.ensure_future(toolbox.aexecute(ToolCall("silence")))
        await asyncio.sleep(0.1)
    with pytest.raises(ServerError, match="call of 'silence'"):
        await waiting


def test_a_server_that_will_not_stop_is_killed(server: Make, is_alive: Alive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualtune_mlx.mcp.process.GRACE", 0.3)
    with connect([server("slow_to_stop")]) as toolbox:
        pid = int(toolbox.execute(ToolCall("pid")).text)
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError("mine"), ServerError("mine"), ExceptionGroup("mine", [OSError()])])
async def test_an_error_of_the_block_comes_out_as_it_is(server: Make, is_alive: Alive, error: Exception) -> None:
    cause = LookupError("its cause")
    with pytest.raises(type(error)) as caught:
        async with aconnect([server("good")]) as toolbox:
            pid = int((await toolbox.aexecute(ToolCall("pid"))).text)
            raise error from cause
    assert caught.value is error and error.__cause__ is cause and error.__context__ is None
    assert not is_alive(pid)


@pytest.mark.anyio
async def test_cancellation_stops_the_servers(server: Make, is_alive: Alive) -> None:
    with anyio.CancelScope() as scope:
        async with aconnect([server("good")]) as toolbox:
            pid = int((await toolbox.aexecute(ToolCall("pid"))).text)
            scope.deadline = anyio.current_time() + 0.3
            await toolbox.aexecute(ToolCall("silence"))
    assert scope.cancelled_caught
    assert not is_alive(pid)


BLOCKING = """
with connect([config]) as toolbox:
    print(toolbox.execute(ToolCall("pid")).text, flush=True)
    WORK
"""
ASYNC = """
async def main():
    async with aconnect([config]) as toolbox:
        print((await toolbox.aexecute(ToolCall("pid"))).text, flush=True)
        await anyio.sleep(60)
anyio.run(main)
"""


@pytest.mark.parametrize(
    "body",
    [
        BLOCKING.replace("WORK", "time.sleep(60)"),
        BLOCKING.replace("WORK", "toolbox.execute(ToolCall('silence'))"),
        ASYNC,
    ],
    ids=["blocking", "blocking-in-call", "async"],
)
def test_ctrl_c_stops_the_servers(server: Make, is_alive: Alive, body: str) -> None:
    command = [sys.executable, "-c", INTERRUPTIBLE + script(server("good"), body)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None and process.stderr is not None
        pid = int(process.stdout.readline())
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.read().decode()
    assert said.strip().endswith("KeyboardInterrupt")
    assert not is_alive(pid)


def test_without_mcp_the_fix_is_named(monkeypatch: pytest.MonkeyPatch, server: Make) -> None:
    monkeypatch.delitem(sys.modules, "dualtune_mlx.mcp.connection", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(UsageError, match=r"pip install 'dualtune-mlx\[mcp\]'"), connect([server("good")]):
        pass


def test_importing_the_room_needs_no_mcp() -> None:
    code = "import sys, dualtune_mlx.mcp; assert not {'mcp', 'anyio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_configuration_is_an_empty_toolbox() -> None:
    with connect([]) as toolbox:
        assert toolbox.servers == ()
        with pytest.raises(DualTuneError, match="no server has the tool"):
            toolbox.execute(ToolCall("echo"))
