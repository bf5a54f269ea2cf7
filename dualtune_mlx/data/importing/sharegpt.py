"""ShareGPT's conversations, with calls as Hermes writes them: ``<tool_call>`` in the text, tools in the system text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dualtune_mlx.data.importing.schemas import mend_types
from dualtune_mlx.data.importing.xlam import read_tool
from dualtune_mlx.errors import DataError

ROLES = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "chatgpt", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "tool_response", "function_response"), "tool"),
}
"""Our roles for the names that stand in ``from``."""
ARE_CALLS = ("function_call", "tool_call")
"""Those whose value is nothing but calls."""
CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
RESULT = re.compile(r"<tool_response>\s*(.*?)\s*(?:</tool_response>|\Z)", re.DOTALL)
TOOLS = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)
THOUGHTS = re.compile(r"<(think|scratch_pad|scratchpad)>.*?</\1>\s*", re.DOTALL)


def read_sharegpt(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of data of a record with ``conversations``.

    Raises:
        DataError: when it has no conversation, a message cannot be read, or no tools are found.
    """
    conversation = record.get("conversations", record.get("conversation"))
    if not isinstance(conversation, list):
        raise DataError("a record has no conversation", got=", ".join(record), expected='a list "conversations"')
    system = str(record.get("system") or "")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for number, turn in enumerate(conversation, 1):
        messages += _read_turn(turn, number)
    tools = _read_tools(record, messages)
    kept = [one for one in messages if one["role"] != "system" or one["content"]]
    return {"messages": kept, "tools": tools, **({"id": record["id"]} if "id" in record else {})}


def _read_turn(turn: Any, number: int) -> Iterator[dict[str, Any]]:
    if not isinstance(turn, Mapping):
        raise DataError(
            "a turn is not an object", where=f"turn {number}", got=type(turn).__name__, expected="an object"
        )
    name, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    role = ROLES.get(str(name).lower())
    if role is None or not isinstance(text, str):
        raise DataError(
            "a turn cannot be read", where=f"turn {number}", got=f"from {name!r}", expected=", ".join(ROLES)
        )
    if role == "tool":
        for result in RESULT.findall(text) or [text]:
            yield {"role": "tool", "content": result}
    elif role == "assistant":
        text = THOUGHTS.sub("", text)
        written = [text] if name in ARE_CALLS else CALL.findall(text)
        content = "" if name in ARE_CALLS else CALL.sub("", text).strip()
        calls = [call for one in written for call in _read_calls(one, number)]
        yield {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
    else:
        yield {"role": role, "content": text}


def _read_calls(text: str, number: int) -> list[dict[str, Any]]:
    value = read_literal(text, f"turn {number}", "a call")
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, Mapping) for one in listed):
        raise DataError("a call is no object", where=f"turn {number}", got=text[:80], expected="an object")
    return [
        {"function": {"name": one.get("name"), "arguments": one.get("arguments", one.get("parameters"))}}
        for one in listed
    ]


def _read_tools(record: Mapping[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools of the record or, where it has none, those of the system text, which loses them."""
    value = record.get("tools")
    if value in (None, "", []):
        system = next((one for one in messages if one["role"] == "system"), None)
        found = TOOLS.search(system["content"]) if system else None
        if system is None or found is None:
            raise DataError("a record names no tools", expected='"tools", or <tools>…</tools> in the system text')
        value = found[1]
        system["content"] = ""  # the rest explains how calls are written, which a template does
    value = read_literal(value, "tools", "a list of tools") if isinstance(value, str) else value
    listed = value if isinstance(value, list) else [value]
    return [{"type": "function", "function": _read_tool(one)} for one in listed]


def _read_tool(tool: Any) -> dict[str, Any]:
    body = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    if not isinstance(body, Mapping):
        raise DataError("a tool is no object", got=type(tool).__name__, expected="an object")
    is_schema = "inputSchema" in body or "input_schema" in body
    return mend_types(dict(body)) if is_schema else read_tool(body)


def read_literal(text: str, where: str, what: str) -> Any:
    """JSON, or what Python writes for the same: some files have ``{'name': …}``. Several values become a list.

    Raises:
        DataError: when it is neither.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{what} is not JSON", where=where, got=text[:80], expected="JSON") from error
