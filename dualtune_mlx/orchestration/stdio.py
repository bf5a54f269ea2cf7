"""Running stdio servers with the official SDK; the one module that imports ``mcp`` and ``anyio``."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

import anyio
from anyio.abc import TaskGroup
from mcp import ClientSession, MCPError, StdioServerParameters, stdio_client
from mcp.shared.dispatcher import CallOptions
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    CONNECTION_CLOSED,
    METHOD_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    PaginatedRequestParams,
    RequestId,
)
from pydantic import ValidationError

from dualtune_mlx.errors import DualTuneError, ServerError
from dualtune_mlx.orchestration.config import ServerConfig
from dualtune_mlx.orchestration.stderr import redacted, tail
from dualtune_mlx.schemas import checked
from dualtune_mlx.tools import Tool

# The SDK logs a traceback for each line of noise; without a handler Python prints it on our terminal.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

# What the SDK raises when the other side fails; RuntimeError stands for an unknown protocol version
# and for a result that breaks the tool's own output schema.
FAILURES = (MCPError, ValidationError, RuntimeError, TimeoutError)


class Connection:
    """One running server: its whole tools, and calls of them.

    ``error`` says why it could not be started; a connection without one is ready.
    """

    def __init__(self, config: ServerConfig, timeout: float) -> None:
        self.config = config
        self.timeout = timeout
        self.tools: tuple[Tool, ...] = ()
        self.error: DualTuneError | None = None

    async def run(self, report: Callable[[Connection], Awaitable[None]]) -> None:
        """Start the server, report once that it is ready or why not, and hold it until cancelled."""
        with tempfile.TemporaryDirectory(prefix="dualtune-mcp-") as folder:
            self._log = Path(folder) / "stderr"
            with self._log.open("w") as log:
                failure: Exception | None
                try:
                    failure = await self._hold(log, report)
                except (OSError, ValueError) as error:  # the process could not be created
                    failure = error
            if failure is not None:
                self.error = failure if isinstance(failure, DualTuneError) else self._failure(failure, "start")
                await report(self)

    async def call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """Call a tool.

        Raises:
            ServerError: when the server ends, stays silent, or breaks the protocol.
        """
        try:
            with anyio.fail_after(self.timeout):
                return await self._session.call_tool(tool, arguments)
        except FAILURES as error:
            raise self._failure(error, f"call of {tool!r}") from error

    async def _hold(self, log: TextIO, report: Callable[[Connection], Awaitable[None]]) -> Exception | None:
        """Hold the running server until cancelled, or return what kept it from starting."""
        config = self.config
        parameters = StdioServerParameters(
            command=config.command,
            args=list(config.args),
            env=dict(config.env),
            cwd=config.cwd,
            encoding_error_handler="replace",  # bytes that are not UTF-8 would end the session
        )
        async with stdio_client(parameters, errlog=log) as streams:
            async with ClientSession(dispatcher=_LenientDispatcher(*streams, server=config.name)) as session:
                # An error is returned, not raised: raised in here, it would come out as an exception group.
                failure = await self._begin(session)
                if failure is None:
                    await report(self)
                    await anyio.sleep_forever()
        return failure

    async def _begin(self, session: ClientSession) -> Exception | None:
        """Agree on a protocol version and list the tools, or return what went wrong."""
        self._session = session
        try:
            with anyio.fail_after(self.timeout):
                await _shake_hands(session)
                self.tools = await _list_tools(session, self.config.name)
        except (*FAILURES, DualTuneError) as error:
            return error
        return None

    def _failure(self, error: Exception, during: str) -> ServerError:
        name = self.config.name
        said = tail(self._log, self.config.env)
        # The SDK's code for a closed connection, -32000, is also any server's own first error code.
        closed = isinstance(error, MCPError) and (error.code, error.message) == (CONNECTION_CLOSED, "Connection closed")
        if isinstance(error, TimeoutError):
            what, fix = f"server {name!r} did not answer within {self.timeout:g} s", "allow it more time, or check it"
        elif closed:
            what, fix = f"server {name!r} ended unexpectedly", "run its command by hand to see why"
        elif isinstance(error, OSError):
            what, fix = f"server {name!r} could not be started", "check 'command', 'args' and 'cwd'"
        else:
            what, fix = f"server {name!r} failed", "check the server's version and its settings"
        reason = "" if closed or isinstance(error, TimeoutError) else redacted(_reason(error), self.config.env)
        heard = [reason, said and f"its last words on stderr:\n{said}"]
        return ServerError(
            what,
            where=f"{name}, {during}",
            got="\n".join(filter(None, heard)) or "nothing",
            expected="an answer in the Model Context Protocol over stdio",
            fix=fix,
        )


@asynccontextmanager
async def running(configs: Sequence[ServerConfig], timeout: float) -> AsyncIterator[tuple[Connection, ...]]:
    """Start all servers at once, and stop them all in the end, whatever happens.

    Each server lives in a task of its own. At the end its stdin is closed; what still runs after
    two seconds is terminated, and killed after two more (the SDK does this, shielded from cancellation).

    Raises:
        DualTuneError: of the first server that fails to start.
    """
    connections = tuple(Connection(config, timeout) for config in configs)
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            await _start(group, connections)
            yield connections
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        # The servers' tasks raise nothing, so the group holds the one error of this block.
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure


async def _start(group: TaskGroup, connections: Sequence[Connection]) -> None:
    send, receive = anyio.create_memory_object_stream[Connection](len(connections))
    with send, receive:
        for connection in connections:
            group.start_soon(connection.run, send.send)
        for _ in connections:
            error = (await receive.receive()).error
            if error is not None:
                raise error


class _LenientDispatcher(JSONRPCDispatcher[Any]):
    """Mends and checks tool schemas before the SDK, which would refuse a whole list for one of them."""

    def __init__(self, read: Any, write: Any, *, server: str) -> None:
        super().__init__(read, write)
        self._server = server

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> dict[str, Any]:
        result = await super().send_raw_request(method, params, opts, _related_request_id=_related_request_id)
        tools = result.get("tools") if method == "tools/list" else None
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict):
                tool["inputSchema"] = checked(tool.get("inputSchema"), f"{self._server}/{tool.get('name')}")
        return result


async def _shake_hands(session: ClientSession) -> None:
    # initialize first: older servers end, or stay silent, when asked server/discover before it.
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION):
            raise
        await session.discover()


async def _list_tools(session: ClientSession, server: str) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        tools += (Tool(tool.name, tool.description or "", tool.input_schema, server) for tool in page.tools)
        cursor = page.next_cursor
        if not cursor:
            return tuple(tools)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"an invalid message at {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
