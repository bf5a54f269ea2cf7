"""No server outlives this process, however that ends; on macOS, what a server started may, if it left the group."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import suppress

from dualtune_mlx.mcp.process_marks import MARK

# Each line lists the process groups that are alive. The end of the input means that we are gone: servers then get a
# second to see that their own input has ended, too. Then those end that have left their groups, where there is /proc.
SCRIPT = """
trap '' HUP INT TERM
while read -r line; do groups=$line; done
[ -z "$groups" ] && exit
sleep 1
kill -s KILL -- $groups
for environ in /proc/[0-9]*/environ; do
    grep -qsF "$1" "$environ" || continue
    pid=${environ#/proc/}
    kill -s KILL "${pid%/environ}"
done
"""


class ProcessGuard:
    """A shell that kills the servers' processes when this process ends without ``close``.

    A process cannot always clean up before it ends: SIGKILL, a crash in native code and ``os._exit`` leave no time. But
    the shell always sees that its input has ended.
    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)
        """How the marks of all its servers' processes begin."""
        self._groups: set[int] = set()
        self._shell: subprocess.Popen[bytes] | None = None

    def add(self, group: int) -> None:
        """Guard a process group."""
        self._groups.add(group)
        self._tell()

    def remove(self, group: int) -> None:
        """Guard a process group no longer: its server has ended."""
        self._groups.discard(group)
        self._tell()

    def close(self) -> None:
        """End the shell; it kills nothing when all groups were removed."""
        if self._shell is not None:
            self._shell.communicate()

    def _tell(self) -> None:
        if self._shell is None:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", SCRIPT, "guard", f"{MARK}={self.mark}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):  # someone ended the shell
            self._shell.stdin.write((" ".join(f"-{group}" for group in sorted(self._groups)) + "\n").encode())
            self._shell.stdin.flush()
