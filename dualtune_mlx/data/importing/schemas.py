"""Types as Python programs name them, as JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TYPES = {
    **dict.fromkeys(("str", "string", "char", "text"), "string"),
    **dict.fromkeys(("int", "integer", "long", "short", "byte", "bigint"), "integer"),
    **dict.fromkeys(("float", "number", "double"), "number"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("list", "array", "tuple", "set", "arraylist", "sequence", "iterable"), "array"),
    **dict.fromkeys(("dict", "object", "hashmap", "hashtable", "mapping"), "object"),
    **dict.fromkeys(("none", "null", "nonetype"), "null"),
}
"""Other names of JSON Schema's types, in small letters. A type that is not here is not restricted."""
OPTIONAL = re.compile(r",\s*(?:optional|default\b.*)$", re.IGNORECASE)
GENERIC = re.compile(r"(?:typing\.)?(\w+)\s*\[(.*)\]$", re.DOTALL)


def read_type(text: str) -> tuple[dict[str, Any], bool]:
    """A type such as ``List[int], optional`` as JSON Schema, and whether it says that it is optional."""
    bare = OPTIONAL.sub("", text.strip())
    found = GENERIC.match(bare)
    outer, inner = (found[1].lower(), found[2]) if found else (bare.lower(), "")
    parts = _divide(inner)
    if outer == "optional":
        return read_type(inner)[0], True
    if outer == "union":
        options = [read_type(part)[0] for part in parts if part.lower() not in ("none", "nonetype")]
        return (options[0] if len(options) == 1 else {"anyOf": options}), len(options) < len(parts)
    kind = TYPES.get(outer.partition(" ")[0])
    schema: dict[str, Any] = {"type": kind} if kind else {}
    if kind == "array" and inner:
        items = [read_type(part)[0] for part in parts if part != "..."]
        schema["items"] = items[0] if all(item == items[0] for item in items) else {"anyOf": items}
    if kind == "object" and len(parts) == 2:
        schema["additionalProperties"] = read_type(parts[1])[0]
    return schema, bare != text.strip()


def _divide(text: str) -> list[str]:
    """The parts of a type between its brackets, at the commas of the first level."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def mend_types(schema: Any) -> Any:
    """A schema in which types have JSON Schema's names, at all depths."""
    if isinstance(schema, list):
        return [mend_types(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    mended = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, str):
            mended.update(read_type(value)[0])
        elif key == "properties" and isinstance(value, Mapping):
            mended[key] = {name: mend_types(own) for name, own in value.items()}
        elif key in ("items", "anyOf", "oneOf", "allOf", "additionalProperties", "prefixItems"):
            mended[key] = mend_types(value)
        else:
            mended[key] = value
    return mended
