"""Fake MCP servers, each a real process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.mcp import ServerConfig

SERVERS = Path(__file__).parent / "servers"
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""How a program begins that a test interrupts: what starts the tests may ignore SIGINT (``nohup``, ``make test &``),
and its children inherit that."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Callable[..., ServerConfig]:
    """Makes the configuration of a fake server: script, arguments, and fields of ServerConfig."""

    def make(script: str, *args: str, name: str = "", **fields: Any) -> ServerConfig:
        return ServerConfig(name or script, sys.executable, (str(SERVERS / f"{script}.py"), *args), **fields)

    return make


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that is to listen at a port."""
    while True:
        assert process.poll() is None, "it ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    def check(pid: int) -> bool:
        for _ in range(50):  # what was killed is there until its parent has heard of it
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.01)
        return True

    return check
