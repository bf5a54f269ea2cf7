"""Servers that fail while they are used, each a real process: the call ends with a reason, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from dualtune_mlx.errors import ServerError, ToolError
from dualtune_mlx.mcp import ServerConfig, Toolbox, connect
from dualtune_mlx.tools import ToolCall
from tests.mcp.conftest import INTERRUPTIBLE, SERVERS

pytestmark = pytest.mark.processes

Make = Callable[..., ServerConfig]
MIB = 2**20


@pytest.fixture(autouse=True)
def restarts_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualtune_mlx.mcp.connection.FIRST_DELAY", 0.05)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = processes()
    yield
    end = time.monotonic() + 10
    while left := processes() - before:
        assert time.monotonic() < end, left
        time.sleep(0.02)


def processes() -> set[int]:
    """This process's children, and the processes that run this folder's servers but no other test process started."""
    rows = {int(pid): (int(parent), command) for pid, parent, command in (line.split(None, 2) for line in listed())}
    return {pid for pid, (parent, command) in rows.items() if parent == os.getpid() or _is_stray(pid, command, rows)}


def _is_stray(pid: int, command: str, rows: dict[int, tuple[int, str]]) -> bool:
    if str(SERVERS) not in command:
        return False
    while pid in rows and pid != os.getpid():
        pid = rows[pid][0]
        if pid == os.getppid() != 1:  # tests on several processes: another of them waits for it
            return False
    return True


def listed() -> Iterator[str]:
    """Process id, parent and command of each process."""
    if not Path("/proc/self").exists():
        ps = subprocess.Popen(["ps", "-axww", "-o", "pid=,ppid=,command="], stdout=subprocess.PIPE, text=True)
        yield from (line for line in ps.communicate()[0].splitlines() if line.split()[0] != str(ps.pid))
        return
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            yield f"{folder.name} {parent} {command or '?'}"


def number(toolbox: Toolbox, tool: str, server: str = "", **arguments: int) -> int:
    return int(toolbox.execute(ToolCall(tool, arguments, server)).text)


def names(toolbox: Toolbox, server: str = "rough") -> list[str]:
    return [tool.name for one in toolbox.servers if one.name == server for tool in one.tools]


def until_running(toolbox: Toolbox, server: str = "rough", seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not names(toolbox, server):
        assert time.monotonic() < end, toolbox.failures
        time.sleep(0.01)


def test_killed_in_a_call(server: Make) -> None:
    with connect([server("rough"), server("good")]) as toolbox, ThreadPoolExecutor() as pool:
        pid = number(toolbox, "pid", "rough")
        call = pool.submit(toolbox.execute, ToolCall("hang"))
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ServerError, match="server 'rough' ended unexpectedly(?s:.*)call of 'hang'"):
            call.result(2)
        assert names(toolbox) == [] and "rough" in toolbox.failures and names(toolbox, "good")
        with pytest.raises(ServerError, match="'rough' is not running(?s:.*)ended unexpectedly(?s:.*)started again"):
            toolbox.execute(ToolCall("pid", {}, "rough"))
        assert number(toolbox, "pid", "good") > 0
        until_running(toolbox)
        assert number(toolbox, "pid", "rough") != pid and not toolbox.failures


def test_killed_between_calls(server: Make) -> None:
    with connect([server("rough")]) as toolbox:
        pid = number(toolbox, "pid")
        os.kill(pid, signal.SIGKILL)
        while names(toolbox):
            time.sleep(0.01)
        assert "between calls" in str(toolbox.failures["rough"])
        until_running(toolbox)
        assert number(toolbox, "pid") != pid


def test_one_that_keeps_dying_stays_down(server: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualtune_mlx.mcp.connection.RESTARTS", 2)
    with connect([server("rough")]) as toolbox:
        for _ in range(3):
            until_running(toolbox)
            with pytest.raises(ServerError, match="no more tokens"):
                toolbox.execute(ToolCall("die"))
        time.sleep(0.5)
        assert names(toolbox) == []
        with pytest.raises(ServerError, match="failed too often"):
            toolbox.execute(ToolCall("pid", {}, "rough"))


def test_hanging_ends_at_the_server_s_own_timeout(server: Make) -> None:
    began = time.monotonic()
    with connect([server("rough", timeout=0.5), server("good")], timeout=60) as toolbox:
        with pytest.raises(ServerError, match="'rough' did not answer within 0.5 s"):
            toolbox.execute(ToolCall("hang"))
        with pytest.raises(ServerError, match="'rough' did not answer within 0.5 s"):  # its stdin is full, too
            toolbox.execute(ToolCall("hang", {"x": "y" * 300_000}))
        assert number(toolbox, "pid", "good") > 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("tool", ["flood", "stream"])
def test_flooding_stdout(server: Make, tool: str) -> None:
    with connect([server("rough", output_limit=4 * MIB)]) as toolbox:
        with pytest.raises(ServerError, match="'rough' wrote too much(?s:.*)4,194,304 bytes without an answer"):
            toolbox.execute(ToolCall(tool))
        until_running(toolbox)
        assert number(toolbox, "pid") > 0


def test_fifty_megabytes(server: Make) -> None:
    with connect([server("rough", name="small"), server("rough", name="large", output_limit=64 * MIB)]) as toolbox:
        with pytest.raises(ServerError, match="'small' wrote too much(?s:.*)output_limit"):
            toolbox.execute(ToolCall("big", {"n": 50}, "small"))
        result = toolbox.execute(ToolCall("big", {"n": 50}, "large"))
        assert len(result.text) == 50 * MIB
        assert len(result.for_model(1000)) <= 1000


def test_one_that_is_still_writing_ends_by_itself(server: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualtune_mlx.mcp.process.GRACE", 20)
    with ThreadPoolExecutor() as pool, connect([server("rough")]) as toolbox:
        call = pool.submit(toolbox.execute, ToolCall("big", {"n": 30}))
        time.sleep(0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert isinstance(call.exception(), ServerError)


def test_what_the_sdk_stumbles_over_is_the_server_s_failure(server: Make) -> None:
    with connect([server("rough")]) as toolbox:
        with pytest.raises(ServerError, match="'rough' failed(?s:.*)call of 'odd'"):
            toolbox.execute(ToolCall("odd", {"result": {"resultType": "a promise"}}))
        assert number(toolbox, "pid") > 0


def test_limits_hold_for_one_answer_not_for_all(server: Make) -> None:
    with connect([server("rough", output_limit=3 * MIB)]) as toolbox:
        assert [len(toolbox.execute(ToolCall("big", {"n": 2})).text) for _ in range(3)] == [2 * MIB] * 3


def test_tools_that_change_between_calls(server: Make) -> None:
    with connect([server("rough")]) as toolbox:
        before = toolbox.servers
        toolbox.execute(ToolCall("grow"))
        new = names(toolbox)[-1]
        assert new.startswith("new") and toolbox.servers != before
        assert number(toolbox, new, n=1) > 0
        with pytest.raises(ToolError, match="'n' is a required property"):
            toolbox.execute(ToolCall(new))
        toolbox.execute(ToolCall("shrink"))
        assert toolbox.servers == before
        with pytest.raises(ToolError, match="no server has the tool"):
            toolbox.execute(ToolCall(new, {"n": 1}))


def test_two_threads_on_one_toolbox(server: Make) -> None:
    with connect([server("rough")]) as toolbox, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: number(toolbox, "wait", n=n), range(8))) == list(range(8))


def test_two_toolboxes_have_a_process_each(server: Make) -> None:
    with connect([server("rough")]) as one, connect([server("rough")]) as other:
        with pytest.raises(ServerError, match="no more tokens"):
            one.execute(ToolCall("die"))
        assert number(other, "pid") > 0


def test_grandchildren_end_too(server: Make) -> None:
    with connect([server("rough", "--orphan")]) as toolbox:
        child = number(toolbox, "child")
        while child not in processes():  # for a moment after its start a process has no arguments
            time.sleep(0.01)


shows_environments = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="only Linux shows the environment of a process"
)


def wait_for_end(pid: int, is_alive: Callable[[int], bool]) -> None:
    """Wait until a process is gone whose parent is now the first one, which takes its time to hear of it."""
    end = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < end


@shows_environments
@pytest.mark.parametrize("how", ["--session", "--daemon"])
def test_those_that_left_the_group_end_too(server: Make, how: str, is_alive: Callable[[int], bool]) -> None:
    with connect([server("rough", how, name="one"), server("rough", how, name="other")]) as toolbox:
        child, other = (int(toolbox.execute(ToolCall("child", server=name)).text) for name in ("one", "other"))
        assert is_alive(child) and is_alive(other)
    wait_for_end(child, is_alive)
    wait_for_end(other, is_alive)


@shows_environments
def test_those_that_left_the_group_of_a_server_that_crashed_end_with_it(
    server: Make, is_alive: Callable[[int], bool]
) -> None:
    with connect([server("rough", "--daemon", name="one"), server("rough", "--daemon", name="other")]) as toolbox:
        child, other = (int(toolbox.execute(ToolCall("child", server=name)).text) for name in ("one", "other"))
        with pytest.raises(ServerError):
            toolbox.execute(ToolCall("die", server="one"))
        wait_for_end(child, is_alive)
        assert is_alive(other)


LEAVE = """
import os, sys, time
from dualtune_mlx.mcp import ServerConfig, connect
from dualtune_mlx.tools import ToolCall

with connect([ServerConfig('rough', {command!r}, {args!r})]) as toolbox:
    print(toolbox.execute(ToolCall('child')).text, flush=True)
    {way}
"""


@shows_environments
def test_however_we_end_those_that_left_the_group_end_too(server: Make, is_alive: Callable[[int], bool]) -> None:
    config = server("rough", "--daemon")
    code = LEAVE.format(command=config.command, args=config.args, way="os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    wait_for_end(int(done.stdout), is_alive)


@pytest.mark.parametrize("way", ["os._exit(1)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)", "os.abort()"])
def test_however_we_end(server: Make, way: str) -> None:
    config = server("rough")
    code = LEAVE.format(command=config.command, args=config.args, way=way)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.returncode and int(done.stdout)


def test_interrupted_while_servers_start(server: Make, tmp_path: Path) -> None:
    config = server("never_answers", str(tmp_path / "pid"))
    code = INTERRUPTIBLE + LEAVE.format(command=config.command, args=config.args, way="")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "pid").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=5)
    assert said.strip().endswith("KeyboardInterrupt")
