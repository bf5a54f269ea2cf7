"""MCP's handshake and list of tools over any transport."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import anyio
from mcp import ClientSession, MCPError
from mcp.shared.dispatcher import CallOptions
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    PaginatedRequestParams,
    RequestId,
)

from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.listing import Listing
from dualtune_mlx.mcp.tool_checks import tool_error
from dualtune_mlx.tools.schemas import LONGEST_SHOWN

# The SDK logs a traceback for each line of noise; without a handler Python prints it on our terminal.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


AS_SENT = "dualtune_mlx/as-sent"
"""Where in a result's ``_meta`` the whole of it goes past the SDK."""


class LenientDispatcher(JSONRPCDispatcher[Any]):
    """Stands before the SDK, which refuses the whole for one of its parts.

    It reads listed tools, and hands on the names and schemas of those that can be used. It lets results of calls pass
    as they are (``result_as_sent``): a call that was made is not undone by what its result looks like.

    Attributes:
        listing: the tools of the newest list, as far as it has come.
        ended: is set when the connection is gone.
    """

    def __init__(self, read: Any, write: Any, config: ServerConfig) -> None:
        super().__init__(read, write)
        self.listing = Listing(config)
        self.ended = anyio.Event()

    async def run(self, *args: Any, **options: Any) -> None:
        try:
            await super().run(*args, **options)
        finally:
            self.ended.set()

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> dict[str, Any]:
        result = await super().send_raw_request(method, params, opts, _related_request_id=_related_request_id)
        kind = result.get("resultType", "complete") if method == "tools/call" else ""
        if kind == "complete":
            return {"content": [], "resultType": "complete", "_meta": {AS_SENT: result}}
        if kind and kind != "input_required":
            raise MCPError(PARSE_ERROR, f"a result of an unknown type: {json.dumps(kind)[:LONGEST_SHOWN]}")
        tools = result.get("tools") if method == "tools/list" else None
        if isinstance(tools, list):
            # In a thread: a large schema takes seconds, and the timeout and the other servers do not wait for it.
            usable = filter(None, [await anyio.to_thread.run_sync(self.listing.add, tool) for tool in tools])
            result["tools"] = [{"name": tool.name, "inputSchema": dict(tool.parameters)} for tool in usable]
        return result


def result_as_sent(result: CallToolResult) -> Mapping[str, Any]:
    """The result of a call as the server sent it."""
    sent: Mapping[str, Any] = (result.meta or {})[AS_SENT]
    return sent


async def shake_hands(session: ClientSession) -> None:
    """Agree on a protocol version.

    ``initialize`` comes first: older servers end or stay silent when they are asked ``server/discover`` before it.
    """
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION):
            raise
        await session.discover()


async def list_tools(session: ClientSession, dispatcher: LenientDispatcher) -> Listing:
    """List the server's tools, all pages.

    Raises:
        ToolError: when there are too many.
    """
    listing = dispatcher.listing = Listing(dispatcher.listing.config)
    cursor: str | None = None
    kept: set[str] = set()
    while True:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        kept.update(tool.name for tool in page.tools)
        cursor = page.next_cursor
        if not cursor:
            break
    for name in {tool.name for tool in listing.tools} - kept:
        where = f"{listing.config.name}/{name}"
        listing.drop(name, tool_error("a tool's schema has headers that cannot be sent", where, None, "'x-mcp-header'"))
    return listing
