"""MCP's handshake and list of tools over any transport."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import chain
from typing import Any

import anyio
from mcp import ClientSession, MCPError
from mcp.shared.dispatcher import CallOptions
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import (
    METHOD_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolResult,
    PaginatedRequestParams,
    RequestId,
)

from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.pinned_arguments import show_tool
from dualtune_mlx.mcp.settled_schema import find_argument_names
from dualtune_mlx.mcp.tool_checks import MOST_TOOLS, check_configured_names, drop_duplicates, repair_tool
from dualtune_mlx.tools import Tool

# The SDK logs a traceback for each line of noise; without a handler Python prints it on our terminal.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


AS_SENT = "dualtune_mlx/as-sent"
"""Where in a result's ``_meta`` the whole of it goes past the SDK."""


class LenientDispatcher(JSONRPCDispatcher[Any]):
    """Stands before the SDK, which refuses the whole for one of its parts.

    It checks and repairs listed tools, and lets results of calls pass as they are (``result_as_sent``): a call that
    was made is not undone by what its result looks like.

    Attributes:
        offered: the names of all tools, also of the excluded ones, which are not checked.
        ended: is set when the connection is gone.
    """

    def __init__(self, read: Any, write: Any, config: ServerConfig) -> None:
        super().__init__(read, write)
        self._config = config
        self.offered: set[str] = set()
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
        if method == "tools/call" and result.get("resultType", "complete") == "complete":
            return {"content": [], "resultType": "complete", "_meta": {AS_SENT: result}}
        tools = result.get("tools") if method == "tools/list" else None
        if isinstance(tools, list):
            result["tools"] = [repair_tool(tool, self._config.name) for tool in tools if not self._is_excluded(tool)]
        return result

    def _is_excluded(self, tool: Any) -> bool:
        name = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str):
            self.offered.add(name)
        return name in self._config.exclude


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


async def list_tools(session: ClientSession, config: ServerConfig) -> tuple[Tool, ...]:
    """List the server's tools, all pages, without the excluded ones. Each tool has its configured group.

    Raises:
        ToolError: when a tool cannot be used.
    """
    tools: list[Tool] = []
    cursor: str | None = None
    while len(tools) <= MOST_TOOLS:
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        for tool in page.tools:
            hints = tool.annotations.model_dump(by_alias=True, exclude_none=True) if tool.annotations else {}
            group = config.group_of(tool.name)
            tools.append(Tool(tool.name, tool.description or "", tool.input_schema, config.name, hints, group))
        cursor = page.next_cursor
        if not cursor:
            break
    return drop_duplicates(tools, config.name)


def check_names(config: ServerConfig, tools: tuple[Tool, ...], offered: set[str]) -> None:
    """Check that the server has every argument and tool that the configuration names, and takes what it pins.

    Raises:
        UsageError: with the unknown names, or with the tool that no call of is left.
    """
    arguments = sorted(set(chain(*(find_argument_names(tool.parameters) for tool in tools))))
    check_configured_names("pinned arguments", config.pinned, arguments, config.name)
    check_configured_names("excluded tools", config.exclude, sorted(offered), config.name)
    check_configured_names("allowed tools", config.allow, sorted(offered), config.name)
    check_configured_names("tools of a group", chain(*config.groups.values()), sorted(offered), config.name)
    for rule in config.rules:
        check_configured_names("tools of a rule", rule.tools, sorted(offered), config.name)
        check_configured_names("arguments of a rule", rule.arguments, arguments, config.name)
    for tool in tools:
        show_tool(config, tool)
