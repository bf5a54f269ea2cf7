"""A server with a tool for everything that can go wrong; what it is told to do comes as arguments."""

import os
import subprocess
import sys
import time
from typing import Any

from wire import notify, serve, text

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CHANGES = ("grow", "shrink", "spoil")
NAMES = ("pid", "wait", "hang", "die", "flood", "stream", "big", "blocks", "not_utf_8", "child", *CHANGES)
HINTS = {"title": "Its number", "readOnlyHint": True}
tools: list[dict[str, Any]] = [
    {"name": name, "inputSchema": NUMBER if name in ("wait", "big") else {}} for name in NAMES
]
tools[0]["annotations"] = HINTS
PROMISES = {
    "odd": {"type": "object", "properties": {"a": {"pattern": "("}}},
    "promise": {"type": "object", "required": ["sum"]},
    "dangle": {"type": "object", "$ref": "#/$defs/nowhere"},
    "nonsense": {"type": "strng"},
    "no_schema": "a sum",
}
"""Output schemas of tools that answer with the result that they are given."""
tools += [{"name": name, "inputSchema": {}, "outputSchema": schema} for name, schema in PROMISES.items()]

BLOCKS = [
    {"type": "text", "text": "a picture:"},
    {"type": "image", "mimeType": "image/png", "data": "iVBORw=="},
    {"type": "audio", "mimeType": "audio/wav", "data": "UklGRg=="},
    {"type": "resource_link", "uri": "file:///a.txt", "name": "a.txt", "mimeType": "text/plain"},
    {"type": "resource", "resource": {"uri": "file:///b.txt", "text": "inside b"}},
    {"type": "resource", "resource": {"uri": "file:///c.bin", "mimeType": "application/x-c", "blob": "AAEC"}},
]


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    if name == "wait":
        time.sleep(arguments["n"] / 10)
        return text(arguments["n"])
    if name == "hang":
        time.sleep(60)
    if name == "die":
        sys.exit("no more tokens")
    if name in ("flood", "stream"):
        while True:
            print("noise " * 1000, end="\n" if name == "flood" else "", flush=True)
    if name == "big":
        return text("x" * arguments["n"] * 2**20)
    if name == "blocks":
        return {"content": BLOCKS, "structuredContent": {"count": len(BLOCKS)}}
    if name == "not_utf_8":
        return text(b"caf\xe9.txt".decode(errors="surrogateescape") + ", \U0001f600")
    if name in PROMISES:
        return arguments["result"]
    if name == "child":
        stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
        command = [sys.executable, "-c", stubborn, __file__]  # the file is to know it by
        if "--daemon" in sys.argv:  # its parent ends, too
            code = f"import subprocess as s; print(s.Popen({command!r}, start_new_session=True, stdout=s.DEVNULL).pid)"
            return text(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout)
        return text(subprocess.Popen(command, start_new_session="--session" in sys.argv).pid)
    if name == "grow":
        tools.append({"name": f"new{len(tools)}", "inputSchema": NUMBER})
        notify("notifications/tools/list_changed")
    if name == "spoil":
        tools.append({"name": "bad", "inputSchema": {"type": "float"}})
        notify("notifications/tools/list_changed")
    if name == "shrink":
        tools.pop()
        notify("notifications/tools/list_changed")
    return text(os.getpid())


if "--orphan" in sys.argv:  # a grandchild that outlives its parent
    call("child", {})
serve(tools, call)
