"""A server of the SDK's own over streamable HTTP: PORT [--json] [--key KEY, which requests must then carry]."""

import argparse
import os
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

options = argparse.ArgumentParser()
options.add_argument("port", type=int)
options.add_argument("--json", action="store_true")
options.add_argument("--key", default="")
given = options.parse_args()
server = MCPServer("web")


@server.tool()
def pid() -> str:
    return str(os.getpid())


@server.tool()
def big(n: int) -> str:
    return "x" * n * 2**20


@server.tool()
async def grow(context: Context) -> str:
    server.add_tool(lambda: "new", name="new")
    await context.session.send_tool_list_changed()
    return "grown"


@server.tool()
def leave() -> str:
    os._exit(1)


app = server.streamable_http_app(json_response=given.json)


async def guarded(scope: Any, receive: Any, send: Any) -> None:
    key = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
    if scope["type"] == "http" and key != given.key:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": f"not {key}".encode()})
    else:
        await app(scope, receive, send)


uvicorn.run(guarded, port=given.port, log_level="error")
