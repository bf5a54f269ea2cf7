"""What a server has started is known by an entry in its environment, which processes inherit wherever they move.

A process that calls ``setsid`` leaves its server's group, and with its parent gone nothing else tells whose it was.
Only Linux shows the environment of other processes; elsewhere nothing is found here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "DUALTUNE_SERVER"
"""The entry of the environment."""
ROUNDS = 3
"""How often is looked for processes: one may start another just before it is ended."""


def end_marked(mark: str) -> None:
    """Kill all processes whose environment has this mark."""
    for _ in range(ROUNDS):
        for pid in _find_marked(mark):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _find_marked(mark: str) -> Iterator[int]:
    entry = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if entry in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)
