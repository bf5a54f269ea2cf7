"""The lines that a server writes: messages of MCP, and noise."""

from __future__ import annotations

import json
import re
from typing import Any

from mcp_types import PARSE_ERROR, ErrorData, JSONRPCError, JSONRPCMessage, jsonrpc_message_adapter

UNREADABLE = "an answer that is no message of the Model Context Protocol"
_BEGINNING = re.compile(
    r'\s*\[?\s*\{\s*"jsonrpc"\s*:\s*"[^"]*"\s*,\s*"id"\s*:\s*(?:(\d{1,18})|"([^"]*)")\s*,(?!\s*"method")'
)
"""How most servers begin an answer."""


def read_line(line: bytes | bytearray) -> JSONRPCMessage | None:
    """The message in a line; None for noise.

    Half a surrogate pair, as in a file's name that is not UTF-8, becomes "?". An answer that is no message becomes an
    error: whoever waits for it would wait in vain.
    """
    text = line.decode(errors="replace")
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return _refuse(_BEGINNING.match(text))
    try:
        return jsonrpc_message_adapter.validate_python(value, by_name=False)
    except (ValueError, RecursionError):  # pydantic's ValidationError is a ValueError
        return _refuse_value(value)


def _refuse(beginning: re.Match[str] | None) -> JSONRPCError | None:
    return beginning and _error(int(beginning[1]) if beginning[1] else beginning[2])


def _refuse_value(value: Any) -> JSONRPCError | None:
    if isinstance(value, list) and value:  # several in one line, as older protocols had it
        value = value[0]
    if not isinstance(value, dict) or "jsonrpc" not in value or "method" in value:
        return None
    identity = value.get("id")
    return _error(identity) if isinstance(identity, int | str) and not isinstance(identity, bool) else None


def _error(identity: int | str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=identity, error=ErrorData(code=PARSE_ERROR, message=UNREADABLE))
