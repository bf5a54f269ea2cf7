"""One configured server for as long as a toolbox is open: started, watched, and started again when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import anyio
from anyio.abc import TaskStatus
from mcp import ClientSession
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import listen
from mcp_types import ToolListChangedNotification
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from dualtune_mlx.errors import DualTuneError, ServerError, ToolError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.faults import (
    CLOSED,
    first_error,
    is_connection_lost,
    not_running_error,
    to_server_error,
)
from dualtune_mlx.mcp.handshake import LenientDispatcher, list_tools, result_as_sent, shake_hands
from dualtune_mlx.mcp.listing import Listing
from dualtune_mlx.mcp.process import ServerProcess
from dualtune_mlx.mcp.process_guard import ProcessGuard
from dualtune_mlx.mcp.transport import Transport
from dualtune_mlx.mcp.web import WebServer
from dualtune_mlx.tools import Tool

FIRST_DELAY = 0.5  # seconds before the first restart; each further one waits twice as long
RESTARTS = 5  # in a row, after which a server stays down
STEADY = 60.0  # seconds after which a server counts as well again
SETTLING = 5.0  # seconds that a call waits for the tools that changed meanwhile


class Connection:
    """A server, its tools, and calls of them.

    Attributes:
        listing: the tools of now; empty while the server is down.
        failure: why the server is down.
    """

    def __init__(self, config: ServerConfig, timeout: float) -> None:
        self.config = config
        self.listing = Listing(config)
        self.failure: DualTuneError | None = None
        self._timeout = config.timeout or timeout
        self._start_timeout = config.start_timeout or timeout
        self._given_up = False
        self._pinned: dict[str, set[str]] = {}
        self._session: ClientSession | None = None
        self._transport: Transport | None = None
        self._ended = anyio.Event()
        self._changed = anyio.Event()
        self._settled = anyio.Event()

    async def run(self, guard: ProcessGuard, *, task_status: TaskStatus[None]) -> None:
        """Run the server until cancelled, or until it has failed too often.

        Raises:
            DualTuneError: when the server cannot be started the first time.
        """
        started = anyio.Event()

        def ready() -> None:
            started.set()
            task_status.started()

        failure = await self._serve(guard, ready)
        if not started.is_set():
            raise failure
        attempts = 0
        while attempts < RESTARTS:
            await anyio.sleep(FIRST_DELAY * 2**attempts)
            began = anyio.current_time()
            await self._serve(guard, lambda: None)
            attempts = 0 if anyio.current_time() - began > STEADY else attempts + 1
        self._given_up = True

    async def call(self, tool: Tool, arguments: dict[str, Any]) -> Mapping[str, Any]:
        """Call a tool; the result as the server sent it. Tools that change meanwhile are up to date when it returns.

        Raises:
            ToolError: when the tool is no longer as it is given; then nothing was sent.
            ServerError: when the server is down, ends, stays silent, writes too much, or breaks the protocol.
        """
        session, transport, ended = self._session, self._transport, self._ended
        if session is None or transport is None:
            raise self.down_error()
        try:
            with anyio.fail_after(self._timeout):
                while not self._settled.is_set():  # a change that is announced is known before anything is sent
                    await self._settled.wait()
                self._check_unchanged(tool)
                result = await session.call_tool(tool.name, arguments)
        except Exception as error:  # whatever the SDK makes of what a server sends
            failure = to_server_error(error, self.config, transport, f"call of {tool.name!r}", self._timeout)
            if is_connection_lost(error, transport) and self._session is session:
                self._fail(failure)
                ended.set()
            raise failure from error
        with anyio.move_on_after(SETTLING):
            await self._settled.wait()
        return result_as_sent(result)

    def _check_unchanged(self, tool: Tool) -> None:
        if not any(tool.is_same(one) for one in self.listing.tools):
            raise ToolError(
                "the tool changed after its call was prepared: nothing was sent",
                where=f"{self.config.name}/{tool.name}",
                expected="the description, schema and hints that the call was checked with",
                fix="make the call again, with the tool as it is now",
            )

    def down_error(self) -> ServerError:
        """The error of a call while the server is down."""
        return not_running_error(self.config, self.failure, self._given_up)

    async def _serve(self, guard: ProcessGuard, ready: Callable[[], None]) -> DualTuneError:
        """Run the server until it fails, and return the reason. (Task groups would wrap it if it were raised.)"""
        config = self.config
        transport = WebServer(config) if config.url else ServerProcess(config, guard)
        during = "start"
        try:
            async with transport.open() as (read, write):
                dispatcher = LenientDispatcher(read, write, config)
                async with ClientSession(dispatcher=dispatcher, message_handler=self._notice) as session:
                    await self._begin(session, dispatcher)
                    during = "between calls"
                    self._session, self._transport, self._ended = session, transport, dispatcher.ended
                    ready()
                    await self._follow(session, dispatcher)
                    if self._session is not None:  # else a call was the first to notice
                        self._fail(to_server_error(CLOSED, config, transport, during, self._timeout))
        except Exception as group:  # whatever it is, it ends this server and no other
            self._fail(to_server_error(first_error(group), config, transport, during, self._start_timeout))
        assert self.failure is not None
        return self.failure

    async def _begin(self, session: ClientSession, dispatcher: LenientDispatcher) -> None:
        with anyio.fail_after(self._start_timeout):
            await shake_hands(session)
            listing = await list_tools(session, dispatcher)
        if self.failure is None:  # the first time; what is missing after a restart may come back
            listing.check_configuration()
        self._offer(listing)
        self.failure = None
        self._settled.set()

    def _offer(self, listing: Listing) -> None:
        listing.drop_unpinned(self._pinned)
        self.listing = listing

    def _fail(self, failure: DualTuneError) -> None:
        self.listing, self._session, self.failure = Listing(self.config), None, failure
        self._settled.set()

    async def _follow(self, session: ClientSession, dispatcher: LenientDispatcher) -> None:
        """Keep the tools up to date until the connection ends."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._refresh, session, dispatcher)
            if session.protocol_version in MODERN_PROTOCOL_VERSIONS and _announces_changes(session):
                group.start_soon(self._listen, session)
            await self._ended.wait()
            group.cancel_scope.cancel()

    async def _notice(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._expect_changes()

    def _expect_changes(self) -> None:
        if self._settled.is_set():
            self._settled = anyio.Event()
        self._changed.set()

    async def _refresh(self, session: ClientSession, dispatcher: LenientDispatcher) -> None:
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            with anyio.fail_after(self._start_timeout):
                self._offer(await list_tools(session, dispatcher))
            if not self._changed.is_set():
                self._settled.set()

    async def _listen(self, session: ClientSession) -> None:
        """Ask to hear of changed tools. Protocols since 2026 tell only those who ask."""
        while True:
            async with listen(session, tools_list_changed=True) as changes:
                async for _ in changes:
                    self._expect_changes()
            await anyio.sleep(FIRST_DELAY)


async def run_connections(connections: Sequence[Connection], ready: Future[None]) -> None:
    """Start all servers at once and run them until cancelled.

    A server that cannot be started stops them all. Whatever happens, no process is left.

    Args:
        ready: is done when all servers run; it gets the error when one cannot be started.
    """
    ready.set_running_or_notify_cancel()
    guard = ProcessGuard()
    try:
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as starting:
                for connection in connections:
                    starting.start_soon(group.start, connection.run, guard)
            ready.set_result(None)
    except Exception as error:
        if ready.done():
            raise
        ready.set_exception(first_error(error))
    finally:
        guard.close()


def _announces_changes(session: ClientSession) -> bool:
    capabilities = session.server_capabilities
    return bool(capabilities and capabilities.tools and capabilities.tools.list_changed)
