"""The keys of data files: those that are read, those that mean nothing here, and the refusal of all others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json

LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Keys:
    """The keys that one kind of object may have."""

    what: str
    """The kind of object, for messages."""
    read: tuple[str, ...]
    """Keys that are obeyed."""
    ignored: tuple[str, ...] = ()
    """Keys that change nothing of what is learned or asked."""
    types: tuple[str, ...] = ()
    """What its key ``type`` may be; it is ignored otherwise."""


LINE = Keys("a line", ("messages", "tools", "functions", "weight", "today"), ("id", "metadata", "parallel_tool_calls"))
MESSAGE = Keys(
    "a message",
    ("role", "content", "refusal", "tool_calls", "function_call", "weight", "parts", "part"),
    ("name", "id", "annotations"),
)
RESULT = Keys("a tool's result", (*MESSAGE.read, "tool_call_id"), MESSAGE.ignored)
PART = Keys("a part of a message's content", ("type", "text"), ("annotations", "cache_control"))
CALL = Keys("a call", ("function", "id", "server"), ("index",), types=("function",))
_NAMED = ("name", "arguments", "server")
CALL_BODY = Keys("a call's function", _NAMED)
FLAT_CALL = Keys("a call", (*_NAMED, "id"), ("index",), types=("function",))
_SCHEMAS = ("parameters", "inputSchema", "input_schema")
_DESCRIBED = ("title", "strict", "outputSchema", "annotations", "icons", "execution", "_meta", "cache_control")
TOOL = Keys("a tool", ("function", "server", "group"), types=("function",))
TOOL_BODY = Keys("a tool's function", ("name", "description", *_SCHEMAS, "server", "group"), _DESCRIBED)
FLAT_TOOL = Keys("a tool", TOOL_BODY.read, _DESCRIBED, types=("function", "custom"))
TOOLS_FILE = Keys("a tools file", ("tools", "server"), ("_meta", "ttlMs", "serverInfo", "protocolVersion"))

_WITH_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_OF_ONE_SCHEMA = ("additionalProperties", "unevaluatedProperties", "propertyNames", "not", "if", "then", "else")
_OF_OTHER_OBJECTS = ("dependentRequired", "$vocabulary", "default", "const", "items", "contains")
SUBSCHEMAS = frozenset((*_WITH_SCHEMAS, *_OF_ONE_SCHEMA, *_OF_OTHER_OBJECTS))
"""The keys of a JSON Schema whose value may be an object."""
TEXTS = frozenset(("description", "server", "group"))
UNLEARNED = 'write "weight": 0 at each message that is not to be learned, or at the line'
FIXES = {
    **dict.fromkeys(("trainable", "train", "training", "learn", "loss", "loss_weight", "mask"), UNLEARNED),
    **dict.fromkeys(("args_schema", "schema", "inputs", "args"), 'write the schema as "parameters"'),
    **dict.fromkeys(("reasoning", "reasoning_content", "thinking"), "remove it: thoughts are not learned"),
    "system": "write it as a message of the role system, the first one",
    "required": 'write it into the schema, which is "parameters"',
    "tool_call_id": "write it at a result, which has the role tool",
    "nextCursor": "ask the server for its other pages, and write all tools into the list",
}
"""What to do about unknown keys that other programs write."""
AS_ARGUMENTS = ("args", "input", "inputs", "parameters")
"""Keys that other programs write a call's arguments under."""


def check_keys(value: Any, keys: Keys) -> None:
    """Check that an object has only known keys; a key that is null is as if it were not there.

    Raises:
        DataError: with the unknown keys, the known ones, and what to do.
    """
    if not isinstance(value, Mapping):
        return  # whoever reads it says what it is
    known = {*keys.read, *keys.ignored, *(["type"] if keys.types else [])}
    unknown = [key for key in value if key not in known and value[key] is not None]
    if unknown:
        raise DataError(
            f"{keys.what} has a key that is not known",
            got=", ".join(f'"{key}": {_to_short_json(value[key])}' for key in unknown),
            expected=", ".join([*keys.read, *keys.ignored]),
            fix="; ".join(dict.fromkeys(_fix(key, keys) for key in unknown)),
        )
    if keys.types and value.get("type") not in (None, *keys.types):
        raise DataError(
            f"{keys.what} is of a type that is not known",
            got=_to_short_json(value["type"]),
            expected=" or ".join(keys.types),
            fix="leave it out",
        )
    for key in TEXTS & value.keys():
        if not isinstance(value[key], str | None):
            raise DataError(
                f"{keys.what} has a {key} that is not text", got=_to_short_json(value[key]), expected="text"
            )


def check_message(value: Mapping[str, Any]) -> None:
    """Check the keys of a message, of its calls and their arguments, and of the parts of its content.

    Raises:
        DataError: when one is not known, or arguments are not strict JSON.
    """
    role = value["role"]
    check_keys(value, RESULT if role in ("tool", "function") else MESSAGE)
    if value.get("weight") == 1 and role != "assistant":
        raise DataError(
            "a weight stands at a message that is never learned",
            got=f"weight 1, role {role}",
            expected="weight 1 at messages of the assistant alone",
            fix="leave it out",
        )
    if value.get("refusal") is not None and value.get("content"):
        raise DataError("a message has both content and refusal", fix="keep what the assistant said")
    for part in _list(value.get("content")):
        check_keys(part, PART)
    for call in _list(value.get("tool_calls")):
        _check_nested(call, CALL, CALL_BODY, FLAT_CALL)
        _check_arguments(call.get("function") or call)
    if value.get("function_call") is not None:
        check_keys(value["function_call"], CALL_BODY)
        _check_arguments(value["function_call"])


def check_tool(value: Mapping[str, Any]) -> None:
    """Check the keys of a tool.

    Raises:
        DataError: when one is not known.
    """
    _check_nested(value, TOOL, TOOL_BODY, FLAT_TOOL)
    body = value.get("function") or value
    given = [key for key in _SCHEMAS if body.get(key) is not None]
    if len(given) > 1:
        raise DataError("a tool has several schemas", got=", ".join(given), expected="one", fix="keep the right one")
    for key in given:
        _check_properties(body[key])


def _check_properties(schema: Any) -> None:
    """JSON Schema passes over keys that it does not know: parameters beside ``properties`` would be none."""
    if not isinstance(schema, Mapping):
        raise DataError("a tool's schema is not an object", got=_to_short_json(schema), expected='{"type": "object"}')
    known = {key for key in schema if key in SUBSCHEMAS or key.startswith("x-")}
    beside = [key for key, value in schema.items() if isinstance(value, Mapping) and key not in known]
    if beside:
        raise DataError(
            "a tool's schema has parameters outside of its properties",
            got=", ".join(beside),
            expected='{"type": "object", "properties": {…}}',
            fix='write them into "properties"',
        )


def _check_nested(value: Any, outer: Keys, body: Keys, flat: Keys) -> None:
    """Check an object whose own keys stand in its ``function`` or, where it has none, in itself."""
    if isinstance(value, Mapping) and value.get("function") is not None:
        check_keys(value, outer)
        check_keys(value["function"], body)
    else:
        check_keys(value, flat)


def _check_arguments(call: Mapping[str, Any]) -> None:
    arguments = call.get("arguments")
    if isinstance(arguments, str) and arguments:
        parse_json(arguments, "a tool call's arguments are not JSON", f"call of {call['name']!r}")


def _fix(key: str, keys: Keys) -> str:
    if "arguments" in keys.read and key in AS_ARGUMENTS:
        return 'write them as "arguments"'
    if key in FIXES:
        return FIXES[key]
    close = get_close_matches(key, keys.read, 1, cutoff=0.8)
    if close:
        return f'did you mean "{close[0]}"?'
    return f'remove "{key}"' + (', or keep it in "metadata"' if "metadata" in keys.ignored else "")


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _to_short_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:LONGEST_SHOWN]
