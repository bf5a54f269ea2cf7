"""A server that behaves, with schemas of every accepted shape; told by --noise or --broken to misbehave."""

import os
import sys

from wire import serve, text

NUMBER = {"$defs": {"number": {"type": "integer"}}}
POINT = {"$ref": "#/$defs/number"}
TOOLS = [
    {
        "name": "echo",
        "description": "Says it again.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "folder": {"type": "string"}},
            "required": ["text", "folder"],
        },
    },
    {
        "name": "add",
        "inputSchema": {"type": "object", "properties": {"a": POINT, "b": POINT}, "required": ["a"], **NUMBER},
    },
    {"name": "either", "inputSchema": {"properties": {"x": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}},
    {"name": "pid", "inputSchema": {"type": "object"}},
    {"name": "fail"},
    {"name": "die", "inputSchema": {"type": "object"}},
    {"name": "silence", "inputSchema": {"type": "object"}},
    {"name": "refuse", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "required": ["sum"]}},
]
BROKEN = {"name": "broken", "inputSchema": {"type": "object", "properties": {"a": {"type": "strng"}}}}


def call(name: str, arguments: dict) -> dict | None:
    if "--noise" in sys.argv:
        noise()
    if name == "echo":
        return text(f"{arguments['folder']}: {arguments['text']}")
    if name == "add":
        total = arguments["a"] + arguments.get("b", 0)
        return text(total, structuredContent={"sum": total})
    if name == "pid":
        return text(os.getpid())
    if name == "die":
        print(f"Traceback: the disk is full, token {os.environ.get('TOKEN')}", file=sys.stderr)
        sys.exit(3)
    if name == "silence":
        return None
    return text(f"{name} went wrong", isError=name == "fail")


def noise() -> None:
    print('starting up...\n\n{"not": "a message"}\n[1, 2', flush=True)
    sys.stdout.buffer.write(b"\xff\xfe not UTF-8\n")
    sys.stdout.buffer.flush()


if "--noise" in sys.argv:
    noise()
serve(TOOLS + [BROKEN] * ("--broken" in sys.argv), call)
