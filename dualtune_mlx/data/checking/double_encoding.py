"""Arguments that were written as JSON twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dualtune_mlx.data.checking.conversations import Found
from dualtune_mlx.data.parsing import parse_tools
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.files import load_json
from dualtune_mlx.tools import Tool, ToolCall, Trajectory, find_called_tool
from dualtune_mlx.tools.leaves import iter_strings
from dualtune_mlx.tools.schemas import check_arguments

WRITE_IT = "write the value itself"


def explain_double_encoding(error: DualTuneError, line: str, tools: tuple[Tool, ...]) -> str:
    """Where arguments that do not fit would fit if the JSON in their texts were read; "" where that is not so.

    Args:
        error: what is wrong with the line.
        line: its text.
        tools: the visible tools of lines that have none of their own.
    """
    if error.what == "a tool call's arguments are not a JSON object":
        return f"{error.where}: the arguments are the JSON text of a text" if isinstance(error.got, str) else ""
    if error.kind != "schema":
        return ""
    value = load_json(line)
    own = value.get("tools") or value.get("functions")
    for message in value["messages"]:
        for call in map(ToolCall.from_dict, message.get("tool_calls") or ()):
            read = {name: _read_json(item) for name, item in call.arguments.items()}
            named = [name for name, item in read.items() if item is not call.arguments[name]]
            if named and _fits(replace(call, arguments=read), parse_tools(own) if own else tools):
                return f"call of {call.name!r}: {', '.join(named)} is the JSON text of a value"
    return ""


def _fits(call: ToolCall, tools: Sequence[Tool]) -> bool:
    try:
        check_arguments(call.arguments, find_called_tool(call, tools))
    except DualTuneError:
        return False
    return True


def find_double_encoding(trajectory: Trajectory) -> Iterator[Found]:
    """Strings that stand between quotation marks of their own, although nobody said these."""
    said = "\n".join(message.content for message in trajectory.messages)
    for message in trajectory.messages:
        for call in message.tool_calls:
            for text in iter_strings(call.arguments):
                inner = _read_json(text) if text[:1] == '"' else None
                if isinstance(inner, str) and inner != text and inner in said and text not in said:
                    what = f"call of {call.name!r}: a text stands in quotation marks of its own"
                    yield "double_encoded", what, WRITE_IT


def _read_json(value: Any) -> Any:
    if isinstance(value, str) and value.strip()[:1] in ("{", "[", '"'):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
