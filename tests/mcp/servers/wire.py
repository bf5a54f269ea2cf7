"""The least of MCP over stdio: enough for fake servers, which may then misbehave as they like."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any


def requests() -> Iterator[dict[str, Any]]:
    """The requests on stdin until it is closed; notifications are skipped."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            yield message


def answer(request: dict[str, Any], **body: Any) -> None:
    """Answer with ``result=…`` or ``error=…``."""
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **body}), flush=True)


def notify(method: str, **params: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}), flush=True)


def welcome(request: dict[str, Any]) -> dict[str, Any]:
    return {
        "protocolVersion": request["params"]["protocolVersion"],
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "fake", "version": "0"},
    }


def text(value: object, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": str(value)}], **more}


def serve(tools: list[dict[str, Any]], call: Callable[[str, dict[str, Any]], dict[str, Any] | None]) -> None:
    """Serve the tools, two a page, until stdin is closed; a call that gives None is never answered."""
    for request in requests():
        method, params = request["method"], request.get("params", {})
        if method == "initialize":
            answer(request, result=welcome(request))
        elif method == "tools/list":
            start = int(params.get("cursor", 0))
            more = {"nextCursor": str(start + 2)} if start + 2 < len(tools) else {}
            answer(request, result={"tools": tools[start : start + 2], **more})
        elif method == "tools/call":
            result = call(params["name"], params.get("arguments", {}))
            if result is not None:
                answer(request, result=result)
        else:
            answer(request, error={"code": -32601, "message": "no such method"})
