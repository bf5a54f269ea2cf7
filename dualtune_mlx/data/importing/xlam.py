"""xLAM's records: a query, its answers and the tools, the last two as JSON text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualtune_mlx.data.importing.schemas import mend_types, read_type
from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json

ANSWER = "I have no tool for that."
"""What the assistant says where a record has no answer."""


def read_xlam(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of data of a record with ``query``, ``answers`` and ``tools``.

    Raises:
        DataError: when one of them is missing, or no JSON.
    """
    answers, tools = (_read_list(record, key) for key in ("answers", "tools"))
    calls = [{"function": {"name": one.get("name"), "arguments": one.get("arguments")}} for one in answers]
    reply: dict[str, Any] = {"role": "assistant", "content": "" if calls else ANSWER}
    return {
        "messages": [
            {"role": "user", "content": record.get("query")},
            {**reply, **({"tool_calls": calls} if calls else {})},
        ],
        "tools": [{"type": "function", "function": read_tool(tool)} for tool in tools],
        **({"id": record["id"]} if "id" in record else {}),
    }


def read_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as xLAM writes it: its parameters are an object of names, with types such as ``str, optional``.

    One whose parameters are JSON Schema is as it is, but for the names of its types.
    """
    parameters = tool.get("parameters") or {}
    if isinstance(parameters.get("properties"), Mapping) and isinstance(parameters.get("type"), str):
        schema = mend_types(parameters)
    else:
        schema = _read_parameters(parameters)
    return {"name": tool.get("name"), "description": tool.get("description") or "", "parameters": schema}


def _read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    properties, required = {}, []
    for name, own in parameters.items():
        kind, is_optional = read_type(str(own.get("type", "any")))
        described = {key: own[key] for key in ("description", "enum") if own.get(key)}
        properties[name] = {**mend_types(kind), **described}
        if not is_optional and "default" not in own and own.get("required", True):
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _read_list(record: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = record.get(key)
    value = parse_json(value, f"a record's {key} are not JSON", None) if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise DataError(f"a record's {key} are no list of objects", got=type(value).__name__, expected="[{…}, …]")
    return value
