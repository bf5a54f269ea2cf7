from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from dualtune_mlx.mcp.process_guard import ProcessGuard

pytestmark = pytest.mark.processes

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def group() -> subprocess.Popen[bytes]:
    return subprocess.Popen(SLEEPER, start_new_session=True)


def lost(guard: ProcessGuard) -> None:
    """What the shell sees when this process is gone: the end of its input."""
    assert guard._shell is not None and guard._shell.stdin is not None
    guard._shell.stdin.close()
    guard._shell.wait()


def test_groups_that_are_left_are_killed(group: subprocess.Popen[bytes]) -> None:
    guard = ProcessGuard()
    guard.add(group.pid)
    lost(guard)
    assert group.wait(1) == -9


def test_groups_that_were_removed_are_not(group: subprocess.Popen[bytes], is_alive: Callable[[int], bool]) -> None:
    guard = ProcessGuard()
    guard.add(group.pid)
    guard.remove(group.pid)
    guard.close()
    assert is_alive(group.pid)
    os.killpg(group.pid, 9)
    group.wait()


def test_without_servers_there_is_no_shell() -> None:
    guard = ProcessGuard()
    guard.close()
    assert guard._shell is None


def test_one_whose_shell_was_ended_goes_on() -> None:
    guard = ProcessGuard()
    guard.add(1 << 22)
    assert guard._shell is not None
    guard._shell.kill()
    guard._shell.wait()
    guard.remove(1 << 22)
    guard.close()
