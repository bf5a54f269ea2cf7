"""Calling the tools of MCP servers.

with connected(read_config("mcp.json")) as toolbox:
    result = toolbox.execute(ToolCall("get_current_time", {"timezone": "Europe/Paris"}, server="time"))
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from dualtune_mlx.errors import DualTuneError, ServerError, ToolError, UsageError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.pinned_arguments import filled, visible
from dualtune_mlx.mcp.preflight import require_command
from dualtune_mlx.mcp.results import ToolResult
from dualtune_mlx.mcp.rules import check_rules, forbidden
from dualtune_mlx.tools import Tool, ToolCall, ToolServer
from dualtune_mlx.tools.schemas import check_arguments

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from dualtune_mlx.mcp.connection import Connection


class Toolbox:
    """The tools of several running servers, for any thread and any event loop.

    The servers live in an event loop of their own, in one thread.
    """

    def __init__(self, connections: Sequence[Connection], portal: BlockingPortal) -> None:
        self._connections = {connection.config.name: connection for connection in connections}
        self._portal = portal

    @property
    def servers(self) -> tuple[ToolServer, ...]:
        """The servers and their tools of now, as a model may see them: without pinned arguments and excluded tools.

        A server that is down has no tools. Tools that changed during a call are here when it returns.
        """
        return tuple(
            ToolServer(name, tuple(visible(tool, hidden(connection.config, tool)) for tool in connection.tools))
            for name, connection in self._connections.items()
        )

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of now, of all servers, as a model may see them."""
        return tuple(tool for server in self.servers for tool in server.tools)

    @property
    def failures(self) -> Mapping[str, DualTuneError]:
        """Why servers are down, by their names."""
        return {name: one.failure for name, one in self._connections.items() if one.failure is not None}

    def complete_call(self, call: ToolCall) -> ToolCall:
        """The call as it is sent: with its server and the pinned arguments, all of them checked.

        Raises:
            ToolError, ServerError: as ``execute``, where nothing is sent.
        """
        connection, tool = self._find(call)
        config = connection.config
        arguments = filled(call.arguments, tool, config.pinned)
        check_arguments(arguments, tool)
        check_rules(arguments, tool, config.rules, None if config.url else config.cwd or os.getcwd())
        return ToolCall(tool.name, arguments, config.name)

    def execute(self, call: ToolCall, approved: bool = False, timeout: float | None = None) -> ToolResult:
        """Fill in the pinned arguments, check them all, call the tool, and wait for its answer.

        A call without a server is fine when one server alone has the tool. ``approved`` says that the user agreed to
        this call, which servers with the approval policy "ask" need. After ``timeout`` seconds the call is cancelled
        and a ``TimeoutError`` raised; the server's own limit holds beside it.

        Raises:
            ToolError: when there is no such tool, it may not be called, or the arguments do not fit its schema, and
                nothing was sent; or when its answer is damaged.
            ServerError: when the server is down, ends, does not answer in time, or breaks the protocol.
        """
        answer = self._begin(call, approved)
        try:
            return answer.result(timeout)
        except CancelledError as error:
            raise _closed(call) from error
        except BaseException:
            answer.cancel()
            raise

    async def aexecute(self, call: ToolCall, approved: bool = False) -> ToolResult:
        """`execute` for asynchronous code; cancelling it cancels the call at the server."""
        return await asyncio.wrap_future(self._begin(call, approved))

    def _begin(self, call: ToolCall, approved: bool) -> Future[ToolResult]:
        connection, tool = self._find(call)
        _require_approval(connection.config, tool, approved)
        arguments = self.complete_call(call).arguments
        try:
            return self._portal.start_task_soon(_called, connection, tool.name, dict(arguments))
        except RuntimeError as error:
            raise _closed(call) from error

    def _find(self, call: ToolCall) -> tuple[Connection, Tool]:
        connections = [one for name, one in self._connections.items() if call.server in ("", name)]
        found = [(one, tool) for one in connections for tool in one.tools if tool.name == call.name]
        if len(found) == 1:
            return found[0]
        if not found and call.server and connections and connections[0].failure is not None:
            raise connections[0].down()
        offered = [f"{name}/{tool.name}" for name, one in self._connections.items() for tool in one.tools]
        raise ToolError(
            "several servers have the tool" if found else "no server has the tool",
            where=f"call of {call.name!r}",
            got=f"server {call.server!r}",
            expected=", ".join(offered) or "nothing: there are no tools",
            fix="name a server and one of its tools",
        )


def hidden(config: ServerConfig, tool: Tool) -> Mapping[str, Any]:
    """The arguments of a tool that no model sees."""
    return {**config.pinned, **dict.fromkeys(forbidden(config.rules, tool))}


@contextmanager
def connected(configs: Sequence[ServerConfig], timeout: float = 30.0) -> Iterator[Toolbox]:
    """Run the servers while the block runs; no process outlives it, however it ends.

    A server that fails later is started again, a little later each time; until then its tools are not there.

    Args:
        configs: the servers, all started at once.
        timeout: seconds that a server may take to start, and a call to answer, where its configuration does not say.

    Raises:
        UsageError: when ``mcp`` is not installed, or a pinned argument or excluded tool does not exist.
        ServerError: when a server cannot be started; the others are stopped.
        ToolError: when a tool cannot be used.
    """
    with _opened(configs, timeout) as (toolbox, ready):
        ready.result()
        yield toolbox


@asynccontextmanager
async def connect(configs: Sequence[ServerConfig], timeout: float = 30.0) -> AsyncIterator[Toolbox]:
    """`connected` for asynchronous code: neither starting nor stopping the servers blocks its event loop."""
    with ExitStack() as stack:
        toolbox, ready = stack.enter_context(_opened(configs, timeout))
        from anyio import CancelScope

        try:
            await asyncio.wrap_future(ready)
            yield toolbox
        finally:
            with CancelScope(shield=True):
                await asyncio.to_thread(stack.close)


@contextmanager
def _opened(configs: Sequence[ServerConfig], timeout: float) -> Iterator[tuple[Toolbox, Future[None]]]:
    """A toolbox whose servers are being started; the future tells when they are."""
    try:
        from anyio.from_thread import start_blocking_portal

        from dualtune_mlx.mcp.connection import Connection, hold
    except ImportError as error:
        raise UsageError(
            "MCP servers need the 'mcp' package",
            got=str(error),
            expected="mcp 2.3 or a later 2.x",
            fix="pip install 'dualtune-mlx[mcp]'",
        ) from error
    for config in configs:
        require_command(config)
    connections = [Connection(config, timeout) for config in configs]
    ready: Future[None] = Future()
    with start_blocking_portal(name="mcp-servers") as portal:
        held = portal.start_task_soon(hold, connections, ready)
        try:
            yield Toolbox(connections, portal), ready
        finally:
            held.cancel()


async def _called(connection: Connection, tool: str, arguments: dict[str, Any]) -> ToolResult:
    started = time.perf_counter()
    answer = await connection.call(tool, arguments)
    seconds = time.perf_counter() - started
    content = tuple(block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in answer.content)
    text = "\n".join(block["text"] for block in content if block["type"] == "text")
    server, structured = connection.config.name, answer.structured_content
    return ToolResult(server, tool, content, text, structured, bool(answer.is_error), seconds)


def _require_approval(config: ServerConfig, tool: Tool, approved: bool) -> None:
    if config.approve == "auto" or (config.approve == "ask" and approved):
        return
    raise ToolError(
        "the tool may not be called" if config.approve == "never" else "the user has not approved of the call",
        where=f"{config.name}/{tool.name}",
        got=f"'approve': {config.approve!r} in the MCP configuration",
        fix="ask the user, or change 'approve' in the server's 'dualtune' entry",
    )


def _closed(call: ToolCall) -> ServerError:
    return ServerError("the toolbox is closed", where=f"call of {call.name!r}", fix="call while it is open")
