"""A server as a child process: messages over its stdin and stdout, within limits. All its processes end with it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from subprocess import PIPE

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.os.posix.utilities import terminate_posix_process_tree
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCResponse

from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.lines import read_line
from dualtune_mlx.mcp.process_guard import ProcessGuard
from dualtune_mlx.mcp.process_marks import MARK, end_marked
from dualtune_mlx.mcp.secrets import clean_output

KEPT = 65_536  # bytes of stderr
LAST_WORDS = 0.2  # seconds: a server that ends may still be writing the reason
GRACE = 2.0  # seconds that a server may take to end by itself, and again after SIGTERM
UNSENT = 64  # messages: a server that does not read must not hold up the cancelling of calls
CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)

Streams = tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]
Incoming = MemoryObjectSendStream[SessionMessage | Exception]


class ServerProcess:
    """A stdio server.

    The connection ends when more than ``output_limit`` bytes come without an answer among them; ``fault`` then says so.
    (The SDK's own transport has no limit.)
    """

    def __init__(self, config: ServerConfig, guard: ProcessGuard) -> None:
        self._config = config
        self._guard = guard
        self._mark = f"{guard.mark}.{secrets.token_hex(8)}"
        self._stderr = b""
        self._stderr_ended = anyio.Event()
        self._hearing = anyio.CancelScope(shield=True)
        self._heard_all = anyio.Event()
        self.fault = ""
        self.session_unknown = False

    def last_words(self) -> str:
        """The server's last words on stderr, without secrets."""
        words = clean_output(self._stderr.decode(errors="replace"), self._config.secrets)
        return words and f"its last words on stderr:\n{words}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Streams]:
        """Start the process, and stop it and all that it has started in the end.

        Raises:
            OSError, ValueError: when there is no such program, or it cannot be run.
        """
        config = self._config
        with anyio.CancelScope(shield=True):  # cancelled in here, asyncio would leave a process half made
            process = await anyio.open_process(
                [config.command, *config.args],
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=get_default_environment() | dict(config.env) | {MARK: self._mark},
                cwd=config.cwd,
                start_new_session=True,
            )
        assert process.stdin and process.stdout and process.stderr
        self._guard.add(process.pid)
        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](UNSENT)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._hear, process.stdout, process.stderr, incoming)
                group.start_soon(self._write, process.stdin, outgoing, incoming)
                try:
                    yield read, write
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._stop(process, read)
                        self._hearing.cancel()
                        group.cancel_scope.cancel()
        finally:
            self._guard.remove(process.pid)
            for stream in (incoming, read, write, outgoing):
                stream.close()

    async def _hear(self, stdout: ByteReceiveStream, stderr: ByteReceiveStream, incoming: Incoming) -> None:
        """Read until the process was stopped, even when cancelled: a process that cannot write cannot end."""
        with self._hearing:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, stdout, incoming)
                group.start_soon(self._listen, stderr)
        self._heard_all.set()

    async def _read(self, stdout: ByteReceiveStream, incoming: Incoming) -> None:
        """Pass messages on. Other lines are dropped, and so is what comes after the end of the session."""
        line, unanswered = bytearray(), 0
        with suppress(*CLOSED, anyio.EndOfStream):
            while True:
                chunk = await stdout.receive()
                unanswered += len(chunk)
                if self.fault:
                    continue
                if unanswered > self._config.output_limit:
                    self.fault = f"more than {self._config.output_limit:,} bytes without an answer"
                    incoming.close()
                    continue
                *ends, rest = chunk.split(b"\n")
                for end in ends:
                    message = read_line(line + end)
                    line.clear()
                    if message is not None:
                        with suppress(*CLOSED):
                            await incoming.send(SessionMessage(message))
                    if isinstance(message, JSONRPCResponse | JSONRPCError):
                        unanswered = 0
                line += rest
        with anyio.move_on_after(LAST_WORDS):
            await self._stderr_ended.wait()
        incoming.close()

    async def _write(
        self, stdin: ByteSendStream, outgoing: MemoryObjectReceiveStream[SessionMessage], incoming: Incoming
    ) -> None:
        with suppress(*CLOSED):
            async for item in outgoing:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stdin.send(text.encode() + b"\n")
            return
        with anyio.move_on_after(LAST_WORDS):
            await self._stderr_ended.wait()
        incoming.close()  # nobody listens: a request would wait for nothing

    async def _listen(self, stderr: ByteReceiveStream) -> None:
        with suppress(*CLOSED, anyio.EndOfStream):
            while True:
                self._stderr = (self._stderr + await stderr.receive())[-KEPT:]
        self._stderr_ended.set()

    async def _stop(self, process: Process, read: MemoryObjectReceiveStream[SessionMessage | Exception]) -> None:
        """Close the server's stdin and give it time to end; then terminate, and at last kill, what is left of it."""
        read.close()
        assert process.stdin
        with suppress(*CLOSED):
            await process.stdin.aclose()
        if not self.fault:
            with anyio.move_on_after(GRACE):
                while process.returncode is None:  # Process.wait() would also wait for those who inherited the pipes
                    await anyio.sleep(0.01)
        await terminate_posix_process_tree(process, GRACE)
        end_marked(self._mark)
        with anyio.move_on_after(GRACE):  # the ends of its pipes; only what has left the group can keep them open
            await self._heard_all.wait()
