"""Seal-Tools (https://github.com/fairyshine/Seal-Tools): requests with one call; a domain is a field."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.start.domain import Domain, LabelledRequest
from dualtune_mlx.tools import Tool

TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
READ: Mapping[str, Callable[[Any], Any]] = {
    "integer": int,
    "number": float,
    "boolean": lambda value: str(value).lower() == "true",
}


def read_seal_tools(folder: Path) -> Iterator[Domain]:
    """A domain for each field. Most of its tools have no request; they serve as others to choose from."""
    data = folder / "Seal-Tools_Dataset"
    tools: dict[str, Tool] = {}
    fields: defaultdict[str, list[Tool]] = defaultdict(list)
    for line in _lines(data / "tool.jsonl"):
        if line["api_name"] not in tools:
            tool = tools[line["api_name"]] = _tool(line)
            fields[line["field"]].append(tool)
    requests: defaultdict[str, list[LabelledRequest]] = defaultdict(list)
    for split in ("dev", "test_in_domain", "test_out_domain"):
        for line in _lines(data / f"{split}.jsonl"):
            name = line["calling"][0]["api"]
            if len(line["calling"]) == 1 and name in tools:
                arguments = _arguments(line["calling"][0]["parameters"], tools[name])
                requests[name].append(LabelledRequest(_close_quote(line["query"]), name, arguments))
    for field, found in fields.items():
        asked = tuple(request for tool in found for request in requests[tool.name])
        if asked:
            yield Domain("seal_tools", field, tuple(found), asked)


def _lines(path: Path) -> Iterator[Any]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _tool(line: Mapping[str, Any]) -> Tool:
    properties = {
        name: {"type": TYPES[value["type"]], "description": value["description"]}
        for name, value in line["parameters"].items()
    }
    schema = {"type": "object", "properties": properties, "required": line["required"]}
    return Tool(line["api_name"], line["api_description"], schema)


def _arguments(given: Mapping[str, Any], tool: Tool) -> dict[str, Any] | None:
    """The values in their parameters' types: all of them are texts in the data."""
    properties = tool.parameters["properties"]
    try:
        return {name: READ.get(properties[name]["type"], str)(given[name]) for name in properties if name in given}
    except (ValueError, TypeError):
        return None


def _close_quote(text: str) -> str:
    """The request with the closing quote that the data set's requests have lost."""
    if text.count('"') % 2 and text[-1:] in ".?!":
        return f'{text[:-1]}"{text[-1]}'
    return text
