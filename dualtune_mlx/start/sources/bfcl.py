"""BFCL's categories ``simple_*`` alone, from the wheel ``bfcl-eval``: its other categories are measured on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.start.domain import Domain, LabelledRequest
from dualtune_mlx.tools import Tool

CATEGORIES = ("simple_python", "simple_java", "simple_javascript")
TYPES = {"dict": "object", "float": "number", "double": "number", "long": "integer", "tuple": "array"}
"""What BFCL's types are in JSON Schema, where they are not called so. All others that it has no words for are texts."""
KNOWN = {"object", "array", "string", "integer", "number", "boolean"}


def read_bfcl(folder: Path) -> Iterator[Domain]:
    """A domain for each category."""
    for category in CATEGORIES:
        name = f"BFCL_v4_{category}.json"
        answers = {line["id"]: line["ground_truth"][0] for line in _lines(folder / "possible_answer" / name)}
        tools: dict[str, Tool] = {}
        requests = []
        for line in _lines(folder / name):
            function = line["function"][0]
            tool_name = function["name"].replace(".", "_")
            if tool_name in tools:
                continue
            tool = tools[tool_name] = Tool(tool_name, function["description"], _schema(function["parameters"]))
            text = line["question"][0][-1]["content"]
            answer = answers[line["id"]][function["name"]]
            requests.append(LabelledRequest(text, tool_name, _arguments(answer, tool, text)))
        yield Domain("bfcl", category, tuple(tools.values()), tuple(requests))


def _lines(path: Path) -> Iterator[Any]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _schema(value: Any) -> Any:
    """A schema with JSON Schema's types, and without keywords that BFCL writes in a form of its own."""
    if isinstance(value, list):
        return [_schema(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    made = {key: _schema(item) for key, item in value.items() if key not in ("optional", "format", "default")}
    kind = made.get("type")
    if isinstance(kind, str):
        kind = TYPES.get(kind.lower(), kind.lower())
        made["type"] = kind if kind in KNOWN else "string"
    return made


def _arguments(answer: Mapping[str, list[Any]], tool: Tool, text: str) -> dict[str, Any]:
    """The first right value of each parameter. One that may be left out is there where the request says it."""
    chosen = {}
    for name in tool.parameters.get("properties", {}):
        values = answer.get(name, [""])
        said = [value for value in values if value not in ("", None) and str(value).lower() in text.lower()]
        if said or "" not in values:
            chosen[name] = _first_values((said or values)[0])
    return chosen


def _first_values(value: Any) -> Any:
    """A value whose parts are lists of right values, with the first one of each."""
    if isinstance(value, Mapping):
        return {key: _first_values(item[0]) if isinstance(item, list) and item else item for key, item in value.items()}
    if isinstance(value, list):
        return [_first_values(item) for item in value]
    return value
