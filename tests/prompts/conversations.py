"""Conversations that the prompt tests share."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.tools import Message, Tool, ToolCall

PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ, LIST = Tool("read_file", "Read a file.", PATH), Tool("list_dir", "List a folder.", PATH)
TOOLS = (READ, LIST)

PLACES = ("system", "user", "assistant", "result", "description", "name", "server", "schema", "key", "value", "past")


def with_text(place: str, text: str) -> dict[str, Any]:
    """Messages, tools and call of a decision in which ``text`` stands in one place that others can write."""
    texts = {name: f"{name} here" for name in PLACES} | {place: text}
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": texts["schema"]}}}
    tool = Tool(texts["name"], texts["description"], schema, texts["server"])
    twin = Tool(texts["name"], "", schema, "other")  # so that the server is part of the name in the prompt
    messages = (
        Message("system", texts["system"]),
        Message("user", texts["user"]),
        Message("assistant", texts["assistant"], (ToolCall(tool.name, {"path": texts["past"]}, tool.server),)),
        Message("tool", texts["result"]),
    )
    call = ToolCall(tool.name, {texts["key"]: 1, "path": texts["value"]}, tool.server)
    return {"messages": messages, "tools": (tool, twin), "call": call}
