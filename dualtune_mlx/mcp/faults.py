"""What went wrong with a server, in words, without its secrets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import httpx2
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED
from pydantic import ValidationError

from dualtune_mlx.errors import DualTuneError, ServerError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.secrets import told

CLOSED = MCPError(CONNECTION_CLOSED, "Connection closed")
"""What the SDK raises when a connection ends. The code alone is not enough: it is also any server's own first one."""
LOST = ("SSE stream ended without a response", "SSE stream ended and reconnection attempts were exhausted")
"""The SDK's messages when an HTTP server goes away in the middle of an answer."""


class Transport(Protocol):
    """How messages come and go.

    When it fails, ``fault`` tells what was seen of that, and ``said`` what the server had to say. ``forgotten`` means
    that the server no longer knows the session.
    """

    fault: str
    forgotten: bool

    def open(self) -> AbstractAsyncContextManager[Any]: ...

    def said(self) -> str: ...


def explained(
    error: Exception, config: ServerConfig, transport: Transport, during: str, timeout: float
) -> DualTuneError:
    """An error of a server, as one that says what, where, and the fix; errors of ours stay as they are."""
    if isinstance(error, DualTuneError):
        return error
    closed = _is_closed(error)
    name, way = config.name, "url" if config.url else "command"
    if isinstance(error, TimeoutError):
        what, fix = f"server {name!r} did not answer within {timeout:g} s", "allow it more time, or check it"
    elif closed and transport.fault:
        what, fix = f"server {name!r} wrote too much", "ask for less, or raise 'output_limit' in its 'dualtune' entry"
    elif closed:
        what, fix = f"server {name!r} ended unexpectedly", f"check the server; its {way} is {config.address}"
    elif isinstance(error, OSError | httpx2.HTTPError):
        verb = "reached" if config.url else "started"
        what, fix = f"server {name!r} could not be {verb}", f"check its {way}: {config.address}"
    else:
        what, fix = f"server {name!r} failed", "check the server's version and its settings"
    reason = "" if closed or isinstance(error, TimeoutError) else told(_reason(error), config.secrets)
    heard = [transport.fault, reason, transport.said()]
    return ServerError(
        what,
        where=f"{name}, {during}",
        got="\n".join(filter(None, heard)) or "nothing",
        expected="an answer in the Model Context Protocol",
        fix=fix,
    )


def not_running(config: ServerConfig, failure: DualTuneError | None, given_up: bool) -> ServerError:
    """The error of a call to a server that is down."""
    return ServerError(
        f"server {config.name!r} is not running",
        where=config.name,
        got=failure or "the toolbox is closed",
        expected="a running server",
        fix="it failed too often: mend the cause and open it again" if given_up else "it is being started again: wait",
    )


def first(error: Exception) -> Exception:
    """The first error of a group, however deep: task groups wrap what comes out of them."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def is_lost(error: Exception, transport: Transport) -> bool:
    """Whether an error of a call means that no further one can succeed over this connection."""
    return transport.forgotten or _is_closed(error) or (isinstance(error, MCPError) and error.message in LOST)


def _is_closed(error: Exception) -> bool:
    return isinstance(error, MCPError) and error.error == CLOSED.error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"an invalid message at {'.'.join(map(str, found['loc']))}: {found['msg']}"
    return str(error) or type(error).__name__
