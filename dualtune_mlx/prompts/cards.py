"""Tool cards: how a tool is written in the prompt.

``name``: its name alone; the shortest prefix, for adapters that know the tools.
``signature``: ``move_file(source, destination): Move or rename files.``; tools never seen can be chosen.
``schema``: a JSON object with the whole description and schema; what has no schema, as a server that is chosen
before its tools, is written as with ``signature``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dualtune_mlx.errors import PromptError, ToolError
from dualtune_mlx.tools import RESPOND, Tool

CARDS = ("name", "signature", "schema")
SENTENCE_LIMIT = 80


def card(tool: Tool, label: str, kind: str) -> str:
    """One tool as text, under the name it has in the prompt."""
    if kind == "name":
        return label
    if kind == "signature" or (kind == "schema" and not tool.parameters):
        return f"{label}({_parameters(tool.parameters)}): {_first_sentence(tool.description)}".rstrip(": ")
    if kind == "schema":
        return json.dumps(function(tool, label), ensure_ascii=False)
    raise PromptError("a kind of tool card is unknown", got=kind, expected=", ".join(CARDS))


def function(tool: Tool, label: str) -> dict[str, Any]:
    """One tool as OpenAI's function, under the name it has in the prompt: for templates that write tools themselves."""
    return {"name": label, "description": tool.description, "parameters": dict(tool.parameters)}


def labels(tools: Sequence[Tool]) -> dict[str, Tool]:
    """The name each tool has in the prompt: its own, or ``server/name`` where two servers share it.

    Raises:
        ToolError: when two tools of one server share a name, or a tool is called ``respond``.
    """
    names = Counter(tool.name for tool in tools)
    found: dict[str, Tool] = {}
    for tool in tools:
        label = tool.name if names[tool.name] == 1 else f"{tool.server}/{tool.name}"
        if label in found or tool.name == RESPOND.name:
            raise ToolError(
                "two tools have the same name" if label in found else "a tool has a reserved name",
                where=f"server {tool.server!r}",
                got=label,
                fix="exclude one of them, or give the servers different names",
            )
        found[label] = tool
    return found


def choices(tools: Sequence[Tool]) -> dict[str, Tool]:
    """What can be chosen, by label: every tool, and ``respond``."""
    return {**labels(tools), RESPOND.name: RESPOND}


def _parameters(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    return ", ".join(name if name in required else f"{name}?" for name in schema.get("properties", {}))


def _first_sentence(description: str) -> str:
    sentence = re.split(r"(?<=[.!?])\s|\n", description.strip(), maxsplit=1)[0]
    if len(sentence) <= SENTENCE_LIMIT:
        return sentence
    return sentence[:SENTENCE_LIMIT].rsplit(" ", 1)[0] + "…"
