"""Calling the tools of MCP servers.

with connected(read_config("mcp.json")) as toolbox:
    result = toolbox.execute(ToolCall("get_current_time", {"timezone": "Europe/Paris"}, server="time"))
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.orchestration.command import require_command
from dualtune_mlx.orchestration.config import ServerConfig
from dualtune_mlx.orchestration.pins import argument_names, filled, refuse_unknown, visible
from dualtune_mlx.schemas import check_arguments
from dualtune_mlx.tools import Tool, ToolCall, ToolServer

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from dualtune_mlx.orchestration.stdio import Connection


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered.

    ``content`` holds MCP's content blocks as JSON objects, ``text`` the text among them, joined by
    newlines; ``structured`` is the structured content, if any; ``seconds`` is the time of the call.
    ``is_error`` means that the tool itself reports a failure, in ``text``.
    """

    server: str
    tool: str
    content: tuple[Mapping[str, Any], ...]
    text: str
    structured: Any
    is_error: bool
    seconds: float


class Toolbox:
    """The tools of several running servers.

    ``servers`` shows them as a model may see them: without pinned arguments and excluded tools.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = {connection.config.name: connection for connection in connections}
        self._tools = {
            (tool.server, tool.name): tool
            for connection in connections
            for tool in connection.tools
            if tool.name not in connection.config.exclude
        }
        self.servers = tuple(
            ToolServer(
                name,
                tuple(visible(tool, connection.config.pinned) for tool in self._tools.values() if tool.server == name),
            )
            for name, connection in self._connections.items()
        )

    async def execute(self, call: ToolCall) -> ToolResult:
        """Fill in the pinned arguments, check them all, and call the tool.

        A call without a server is fine when one server alone has the tool.

        Raises:
            ToolError: when there is no such tool, or the arguments do not fit its schema; nothing was sent.
            ServerError: when the server ends, does not answer in time, or breaks the protocol.
        """
        tool = self._find(call)
        connection = self._connections[tool.server]
        arguments = filled(call.arguments, tool, connection.config.pinned)
        check_arguments(arguments, tool)
        started = time.perf_counter()
        answer = await connection.call(tool.name, arguments)
        seconds = time.perf_counter() - started
        content = tuple(block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in answer.content)
        text = "\n".join(block["text"] for block in content if block["type"] == "text")
        return ToolResult(
            tool.server, tool.name, content, text, answer.structured_content, bool(answer.is_error), seconds
        )

    def _find(self, call: ToolCall) -> Tool:
        found = [t for t in self._tools.values() if t.name == call.name and call.server in ("", t.server)]
        if len(found) == 1:
            return found[0]
        raise ToolError(
            "several servers have the tool" if found else "no server has the tool",
            where=f"call of {call.name!r}",
            got=f"server {call.server!r}",
            expected=", ".join(f"{server}/{name}" for server, name in self._tools) or "nothing: there are no tools",
            fix="name a server and one of its tools",
        )


@dataclass(frozen=True)
class BlockingToolbox:
    """A toolbox for code that is not asynchronous."""

    _toolbox: Toolbox
    _portal: BlockingPortal

    @property
    def servers(self) -> tuple[ToolServer, ...]:
        """The servers and the tools that a model may see."""
        return self._toolbox.servers

    def execute(self, call: ToolCall) -> ToolResult:
        """Call a tool and wait for its answer; the errors are those of `Toolbox.execute`."""
        return self._portal.call(self._toolbox.execute, call)


@asynccontextmanager
async def connect(configs: Sequence[ServerConfig], timeout: float = 30.0) -> AsyncIterator[Toolbox]:
    """Run the servers while the block runs; no process outlives it, however it ends.

    Args:
        configs: the servers, all started at once.
        timeout: seconds that a server may take to start, and a call to answer.

    Raises:
        UsageError: when ``mcp`` is not installed, or a pinned argument or excluded tool does not exist.
        ServerError: when a server cannot be started; the others are stopped.
        ToolError: when a tool's schema is not valid.
    """
    running = _running()
    for config in configs:
        require_command(config)
    async with running(configs, timeout) as connections:
        for connection in connections:
            config, tools = connection.config, connection.tools
            refuse_unknown("pinned arguments", config.pinned, argument_names(tools), config.name)
            refuse_unknown("excluded tools", config.exclude, [tool.name for tool in tools], config.name)
        yield Toolbox(connections)


@contextmanager
def connected(configs: Sequence[ServerConfig], timeout: float = 30.0) -> Iterator[BlockingToolbox]:
    """`connect` for code that is not asynchronous: the servers are held by an event loop in a thread."""
    _running()  # before anyio, which comes with mcp
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(connect(configs, timeout)) as toolbox:
        yield BlockingToolbox(toolbox, portal)


def _running() -> Callable[[Sequence[ServerConfig], float], AbstractAsyncContextManager[tuple[Connection, ...]]]:
    """`stdio.running`, imported when it is needed: ``mcp`` is optional."""
    try:
        from dualtune_mlx.orchestration.stdio import running
    except ImportError as error:
        raise UsageError(
            "MCP servers need the 'mcp' package",
            got=str(error),
            expected="mcp 2.3 or a later 2.x",
            fix="pip install 'dualtune-mlx[mcp]'",
        ) from error
    return running
