"""A server of the 2026 protocol, which knows no initialize."""

from wire import answer, requests

HINTS = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
for request in requests():
    if request["method"] == "server/discover":
        answer(request, result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **HINTS})
    elif request["method"] == "tools/list":
        answer(request, result={"tools": [{"name": "ping"}], **HINTS})
    elif request["method"] == "tools/call":
        version = request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
        answer(request, result={"content": [{"type": "text", "text": version}], "resultType": "complete"})
    else:
        answer(request, error={"code": -32601, "message": "no such method"})
