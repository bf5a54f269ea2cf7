"""A server of the 2026 protocol, which knows no initialize and tells of changes only those who listen.

It may be told of more tools than one, as JSON.
"""

import json
import sys

from wire import answer, notify, requests

HINTS = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
tools = [{"name": "ping", "inputSchema": {"type": "object"}}, *json.loads(sys.argv[1] if sys.argv[1:] else "[]")]
listener = {}
for request in requests():
    if request["method"] == "server/discover":
        answer(
            request,
            result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}}, **HINTS},
        )
    elif request["method"] == "tools/list":
        answer(request, result={"tools": tools, **HINTS})
    elif request["method"] == "subscriptions/listen":
        listener = {"_meta": {"io.modelcontextprotocol/subscriptionId": request["id"]}}
        notify("notifications/subscriptions/acknowledged", notifications={"toolsListChanged": True}, **listener)
    elif request["method"] == "tools/call":
        tools.append({"name": f"ping{len(tools)}", "inputSchema": {"type": "object"}})
        if listener:
            notify("notifications/tools/list_changed", **listener)
        version = request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
        answer(request, result={"content": [{"type": "text", "text": version}], "resultType": "complete"})
    else:
        answer(request, error={"code": -32601, "message": "no such method"})
