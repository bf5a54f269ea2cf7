"""Failures of servers, told in words without secrets."""

from __future__ import annotations

import httpx2
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED
from pydantic import ValidationError

from dualtune_mlx.errors import DualTuneError, ServerError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.lines import UNREADABLE
from dualtune_mlx.mcp.secrets import clean_output
from dualtune_mlx.mcp.transport import Transport

CLOSED = MCPError(CONNECTION_CLOSED, "Connection closed")
"""What the SDK raises when a connection ends. Its code alone does not tell: servers use the same code for errors."""
LOST = ("SSE stream ended without a response", "SSE stream ended and reconnection attempts were exhausted")
"""The SDK's messages when an HTTP server goes away in the middle of an answer."""


def to_server_error(
    error: Exception, config: ServerConfig, transport: Transport, during: str, timeout: float
) -> DualTuneError:
    """Turn an error of a server into one that says what, where, and the fix. Errors of ours stay as they are."""
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
    reason = "" if closed or isinstance(error, TimeoutError) else clean_output(_reason(error), config.secrets)
    heard = [transport.fault, reason, transport.last_words()]
    return ServerError(
        what,
        where=f"{name}, {during}",
        got="\n".join(filter(None, heard)) or "nothing",
        expected="an answer in the Model Context Protocol",
        fix=fix,
    )


def not_running_error(config: ServerConfig, failure: DualTuneError | None, given_up: bool) -> ServerError:
    """The error of a call to a server that is down."""
    return ServerError(
        f"server {config.name!r} is not running",
        where=config.name,
        got=failure or "the toolbox is closed",
        expected="a running server",
        fix="it failed too often: mend the cause and open it again" if given_up else "it is being started again: wait",
    )


def first_error(error: Exception) -> Exception:
    """The first error of a group, however deep: task groups wrap what comes out of them."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def is_connection_lost(error: Exception, transport: Transport) -> bool:
    """Whether an error of a call means that no further one can succeed over this connection."""
    return transport.session_unknown or _is_closed(error) or (isinstance(error, MCPError) and error.message in LOST)


def _is_closed(error: Exception) -> bool:
    return isinstance(error, MCPError) and error.error == CLOSED.error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"an invalid message at {'.'.join(map(str, found['loc']))}: {found['msg']}"
    if isinstance(error, MCPError) and "validation error" in str(error):  # pydantic's own words repeat what was sent
        return UNREADABLE
    return str(error) or type(error).__name__
