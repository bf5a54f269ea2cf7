"""Tool cards: how a tool is written in the prompt.

``name``: its name alone. This makes the shortest prefix, for adapters that know the tools.
``signature``: ``move_file(source, destination): Move or rename files.`` With these, tools can be chosen that no adapter
has seen.
``typed``: ``move_file(source: string, mode?: "copy"|"move"): Move or rename files.`` A signature with the parameters'
types, formats and values.
``schema``: a JSON object with the whole description and schema. A server has no schema; its card is a signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.parameters import first_sentence, typed_parameters
from dualtune_mlx.tools import Tool

CARD_KINDS = ("name", "signature", "typed", "schema")


def tool_card(tool: Tool, label: str, kind: str) -> str:
    """A tool's card, under its label.

    Raises:
        PromptError: when the kind is unknown.
        ToolError: when a typed card's tool has a schema that is not a valid JSON Schema.
    """
    if kind == "name":
        return label
    if kind in ("signature", "typed") or (kind == "schema" and not tool.parameters):
        listed = typed_parameters(tool) if kind == "typed" else _parameter_list(tool.parameters)
        return f"{label}({listed}): {first_sentence(tool.description)}".rstrip(": ")
    if kind == "schema":
        return json.dumps(openai_function(tool, label), ensure_ascii=False)
    raise PromptError("a kind of tool card is unknown", got=kind, expected=", ".join(CARD_KINDS))


def openai_function(tool: Tool, label: str) -> dict[str, Any]:
    """A tool as OpenAI's ``function``, under its label, for templates that write tools themselves."""
    return {"name": label, "description": tool.description, "parameters": dict(tool.parameters)}


def _parameter_list(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    names = (name if name in required else f"{name}?" for name in schema.get("properties", {}))
    return ", ".join(" ".join(name.splitlines()) for name in names)  # a name with line breaks makes no lines of ours
