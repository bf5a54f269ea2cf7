"""Calling the tools of MCP servers.

with connect(read_config("mcp.json")) as toolbox:
    result = toolbox.execute(ToolCall("get_current_time", {"timezone": "Europe/Paris"}, server="time"))
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dualtune_mlx.errors import DualTuneError, DualTuneWarning, ServerError, ToolError, UsageError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.pinned_arguments import fill_pinned
from dualtune_mlx.mcp.preflight import check_command
from dualtune_mlx.mcp.results import ToolResult, read_result
from dualtune_mlx.mcp.rules import check_rules, make_absolute
from dualtune_mlx.tools import Tool, ToolCall, ToolServer
from dualtune_mlx.tools.schemas import check_arguments

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from dualtune_mlx.mcp.connection import Connection
    from dualtune_mlx.mcp.listing import Listing


class ToolWarning(DualTuneWarning):
    """Tools of a server cannot be used."""


@dataclass(frozen=True)
class PreparedCall:
    """A call that may be sent. What is approved is all of it, and nothing else is executed."""

    call: ToolCall
    """The call as it is sent: with its server and the pinned arguments."""
    tool: Tool
    """The tool as its server lists it, with its hints and all its arguments."""


class Toolbox:
    """The tools of several running servers, for any thread and any event loop.

    The servers live in an event loop of their own, in one thread.
    """

    def __init__(self, connections: Sequence[Connection], portal: BlockingPortal) -> None:
        self._connections = {connection.config.name: connection for connection in connections}
        self._portal = portal

    @property
    def servers(self) -> tuple[ToolServer, ...]:
        """The servers with their tools of now, as a model may see them: without pinned arguments and excluded tools.

        A server that is down has no tools. Tools that change during a call are up to date when the call returns.
        """
        return tuple(ToolServer(name, one.listing.shown) for name, one in self._connections.items())

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of now, of all servers, as a model may see them."""
        return tuple(tool for server in self.servers for tool in server.tools)

    @property
    def listings(self) -> tuple[Listing, ...]:
        """What each server lists now; a server that is down lists nothing."""
        return tuple(one.listing for one in self._connections.values())

    @property
    def failures(self) -> Mapping[str, DualTuneError]:
        """Why servers are down, by their names."""
        return {name: one.failure for name, one in self._connections.items() if one.failure is not None}

    @property
    def set_aside(self) -> Mapping[str, DualTuneError]:
        """Why tools cannot be used, by ``server/tool``. The other tools of their servers can."""
        connections = self._connections.items()
        return {f"{name}/{tool}": why for name, one in connections for tool, why in one.listing.set_aside.items()}

    def prepare(self, call: ToolCall) -> PreparedCall:
        """The call as it is sent, and the tool that it is sent to. All arguments are checked.

        Raises:
            ToolError, ServerError: as ``execute`` does before it sends anything.
        """
        connection, tool = self._find(call)
        config = connection.config
        arguments = fill_pinned(call.arguments, tool, config.pinned)
        if not config.url:
            arguments = make_absolute(arguments, tool, config.rules, os.path.abspath(config.cwd or ""))
        check_arguments(arguments, tool)
        check_rules(arguments, tool, config.rules)
        return PreparedCall(ToolCall(tool.name, arguments, config.name), tool)

    def execute(
        self, call: ToolCall | PreparedCall, approved: bool = False, timeout: float | None = None
    ) -> ToolResult:
        """Fill in the pinned arguments, check all arguments, call the tool, and wait for its answer.

        Args:
            call: may leave out its server when only one server has the tool. A prepared one is made as it is.
            approved: the user agreed to this call. Servers with the approval policy "ask" need it.
            timeout: seconds after which the call is cancelled. The server's own limit holds beside it.

        Raises:
            ToolError: when there is no such tool, it may not be called, it has changed since the call was prepared, or
                the arguments do not fit its schema; then nothing was sent.
            ServerError: when the server is down, ends, does not answer in time, or breaks the protocol.
            TimeoutError: after ``timeout`` seconds.
        """
        answer = self._begin(call, approved)
        try:
            return answer.result(timeout)
        except CancelledError as error:
            raise _closed_error(call if isinstance(call, ToolCall) else call.call) from error
        except BaseException:
            answer.cancel()
            raise

    async def aexecute(
        self, call: ToolCall | PreparedCall, approved: bool = False, timeout: float | None = None
    ) -> ToolResult:
        """``execute`` for asynchronous code; cancelling it cancels the call at the server."""
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self._begin(call, approved))

    def _begin(self, call: ToolCall | PreparedCall, approved: bool) -> Future[ToolResult]:
        prepared = self.prepare(call) if isinstance(call, ToolCall) else call
        connection = self._connections[prepared.call.server]
        if prepared is call:  # a link may have been made since
            check_rules(prepared.call.arguments, prepared.tool, connection.config.rules)
        _check_approval(connection.config, prepared.tool, approved)
        try:
            return self._portal.start_task_soon(_call_tool, connection, prepared)
        except RuntimeError as error:
            raise _closed_error(prepared.call) from error

    def _find(self, call: ToolCall) -> tuple[Connection, Tool]:
        connections = [one for name, one in self._connections.items() if call.server in ("", name)]
        found = [(one, tool) for one in connections for tool in one.listing.tools if tool.name == call.name]
        if len(found) == 1:
            return found[0]
        if not found and call.server and connections and connections[0].failure is not None:
            raise connections[0].down_error()
        reasons = [one.listing.set_aside[call.name] for one in connections if call.name in one.listing.set_aside]
        if reasons and not found:
            raise ToolError(
                f"the tool was set aside when its server listed it: {reasons[0].what}",
                where=reasons[0].where,
                got=reasons[0].got,
                expected=reasons[0].expected,
                fix="exclude the tool in the MCP configuration, or report it to its server's authors",
            )
        offered = [f"{name}/{tool.name}" for name, one in self._connections.items() for tool in one.listing.tools]
        raise ToolError(
            "several servers have the tool" if found else "no server has the tool",
            where=f"call of {call.name!r}",
            got=f"server {call.server!r}",
            expected=", ".join(offered) or "nothing: there are no tools",
            fix="name a server and one of its tools",
        )


@contextmanager
def connect(configs: Sequence[ServerConfig], timeout: float = 30.0) -> Iterator[Toolbox]:
    """Run the servers while the block runs; no server outlives it, however it ends.

    A server that fails later is started again, after a longer wait each time. Until then it has no tools. A
    ``ToolWarning`` names the tools that cannot be used, which ``Toolbox.set_aside`` has too.

    Args:
        configs: the servers; all are started at once.
        timeout: seconds that a server may take to start, and to answer a call. Its configuration goes before.

    Raises:
        UsageError: when ``mcp`` is not installed, a name in the configuration does not exist at its server, or no call
            of a tool fits what is pinned.
        ServerError: when a server cannot be started; the others are stopped.
        ToolError: when a server lists too many tools.
    """
    with _start_servers(configs, timeout) as (toolbox, ready):
        ready.result()
        _warn_of_unusable_tools(toolbox)
        yield toolbox


@asynccontextmanager
async def aconnect(configs: Sequence[ServerConfig], timeout: float = 30.0) -> AsyncIterator[Toolbox]:
    """``connect`` for asynchronous code: neither starting nor stopping the servers blocks its event loop."""
    with ExitStack() as stack:
        toolbox, ready = stack.enter_context(_start_servers(configs, timeout))
        from anyio import CancelScope

        try:
            await asyncio.wrap_future(ready)
            _warn_of_unusable_tools(toolbox)
            yield toolbox
        finally:
            with CancelScope(shield=True):
                await asyncio.to_thread(stack.close)


@contextmanager
def _start_servers(configs: Sequence[ServerConfig], timeout: float) -> Iterator[tuple[Toolbox, Future[None]]]:
    """Start the servers: a toolbox, and a future that is done when they run."""
    try:
        from anyio.from_thread import start_blocking_portal

        from dualtune_mlx.mcp.connection import Connection, run_connections
    except ImportError as error:
        raise UsageError(
            "MCP servers need the 'mcp' package",
            got=str(error),
            expected="mcp 2.3 or a later 2.x",
            fix="pip install 'dualtune-mlx[mcp]'",
        ) from error
    for config in configs:
        check_command(config)
    connections = [Connection(config, timeout) for config in configs]
    ready: Future[None] = Future()
    with start_blocking_portal(name="mcp-servers") as portal:
        running = portal.start_task_soon(run_connections, connections, ready)
        try:
            yield Toolbox(connections, portal), ready
        finally:
            running.cancel()


def _warn_of_unusable_tools(toolbox: Toolbox) -> None:
    if unusable := toolbox.set_aside:
        lines = (
            f"  {name}: {why.what} ({why.where}{f', got {why.got}' if why.got else ''})"
            for name, why in unusable.items()
        )
        what = f"tools that cannot be used are set aside ({len(unusable)}); the others go on"
        fix = (
            "  fix: exclude them in the MCP configuration ('dualtune': {'exclude': […]}), or report them to the authors"
        )
        warnings.warn("\n".join((what, *lines, fix)), ToolWarning, stacklevel=4)


async def _call_tool(connection: Connection, prepared: PreparedCall) -> ToolResult:
    started = time.perf_counter()
    answer = await connection.call(prepared.tool, dict(prepared.call.arguments))
    return read_result(connection.config.name, prepared.tool.name, answer, time.perf_counter() - started)


def _check_approval(config: ServerConfig, tool: Tool, approved: bool) -> None:
    if config.approve == "auto" or (config.approve == "ask" and approved):
        return
    raise ToolError(
        "the tool may not be called" if config.approve == "never" else "the call is not approved: nobody was asked",
        where=f"{config.name}/{tool.name}",
        got=f"'approve': {config.approve!r} in the MCP configuration",
        fix="let the user agree (`dualtune agent` asks, approved=True says so), or change the server's 'approve'",
    )


def _closed_error(call: ToolCall) -> ServerError:
    return ServerError("the toolbox is closed", where=f"call of {call.name!r}", fix="call while it is open")
