"""How parameters are written in prompts: in the typed tool card, and in the card that stands before the arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter, list_parameters

ARGUMENT_CARDS = ("none", "parameters", "prefix")
"""What the arguments are written from, beside the conversation: the cards of all tools alone; the chosen tool's
parameters too, behind its name; or the chosen tool alone, with its parameters, in place of the cards."""
SENTENCE_LIMIT = 80
VALUES_LIMIT = 200
"""Characters of a parameter's values that are shown."""
CARD_LIMIT = 2000
"""Characters of a card of parameters. What comes behind them is left out."""
DESCRIPTION_LIMIT = 600
"""Characters of a tool's description on its sheet."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def argument_card(tool: Tool, today: str = "") -> str:
    """A tool's parameters, one a line, and a line with today's date where one of them is a date; "" for none.

    Args:
        tool: the tool.
        today: the date (2026-11-30); without one there is no line of it.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    card, _ = _parameter_lines(tool.name, json.dumps(dict(tool.parameters)))
    return card + today_line(tool, today)


def today_line(tool: Tool, today: str) -> str:
    """The line of today's date for a tool that takes a date; "" for another tool, or where today is not known.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    _, has_date = _parameter_lines(tool.name, json.dumps(dict(tool.parameters)))
    return f"Today: {WEEKDAYS[date.fromisoformat(today).weekday()]}, {today}\n" if has_date and today else ""


def tool_sheet(tool: Tool) -> str:
    """All that the arguments of a tool are written from: its name, its description, and a line for each parameter.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    described = _cut(_one_line(tool.description), DESCRIPTION_LIMIT)
    return f"{tool.name}: {described}".rstrip(": ") + "\n" + argument_card(tool).rstrip("\n")


@lru_cache(maxsize=256)  # many decisions are calls of the same tools
def _parameter_lines(name: str, schema: str) -> tuple[str, bool]:
    """The lines of a tool's parameters, and whether one of them is a date."""
    card, has_date = "", False
    for parameter in list_parameters(Tool(name, "", json.loads(schema))):
        has_date = has_date or parameter.is_date
        if parameter.path.endswith("[]") and _is_plain(parameter.schema):  # its list says what it is
            continue
        text, description = parameter_text(parameter), first_sentence(parameter.description)
        line = _one_line(f"{text}. {description}" if description else text)
        if len(card) + len(line) > CARD_LIMIT:
            return f"{card}…\n", has_date
        card += f"{line}\n"
    return card, has_date


def typed_parameters(tool: Tool) -> str:
    """The parameters of a tool on one line, those inside objects left out: ``city: string, unit?: "C"|"F"``.

    Raises:
        ToolError: when the tool's schema is not a valid JSON Schema.
    """
    outer = (one for one in list_parameters(tool) if one.path in tool.parameters.get("properties", {}))
    return _one_line(", ".join(map(parameter_text, outer)))


def parameter_text(parameter: Parameter) -> str:
    """A parameter and what it may be: ``unit?: "C"|"F"``. A question mark stands behind optional ones."""
    mark = "" if parameter.required else "?"
    return f"{parameter.path}{mark}: {'|'.join(dict.fromkeys(map(_type_text, parameter.alternatives))) or 'any'}"


def first_sentence(text: str) -> str:
    """The first sentence or line of a description, or the words of it that have room."""
    sentence = re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0]
    return _cut(sentence, SENTENCE_LIMIT)


def _cut(text: str, limit: int) -> str:
    """The text, or the words of it that have room."""
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + "…"


def _type_text(schema: Mapping[str, Any]) -> str:
    """What a value may be: its values, else its format, else its types."""
    if "const" in schema or "enum" in schema:
        return _values_text([schema["const"]] if "const" in schema else schema["enum"])
    types = schema.get("type", "any")
    of_string = str(schema.get("format", "string"))
    of_list = f"[{_type_text(schema['items'])}]" if _is_plain(schema.get("items")) else "array"
    names = {"string": of_string, "array": of_list}
    return "|".join(names.get(name, name) for name in ([types] if isinstance(types, str) else types))


def _is_plain(schema: Any) -> bool:
    """Whether a schema says by itself what a value may be, without a choice or a reference."""
    return isinstance(schema, Mapping) and not {"$ref", "anyOf", "oneOf", "allOf"} & schema.keys()


def _values_text(values: list[Any]) -> str:
    shown = ""
    for separator, value in zip(chain([""], repeat("|")), values, strict=False):
        text = separator + json.dumps(value, ensure_ascii=False)
        if len(shown) + len(text) > VALUES_LIMIT:
            return f"{shown}|…" if shown else "…"
        shown += text
    return shown


def _one_line(text: str) -> str:
    """The text on one line: a name or a description with line breaks does not look like several lines of ours."""
    return " ".join(text.split())
