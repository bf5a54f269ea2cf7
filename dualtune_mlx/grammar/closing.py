"""Objects that list their properties take no others while arguments are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Where schemas stand inside a schema: under names, or by themselves and in lists. Not `allOf`, see `close_objects`.
SCHEMA_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
SCHEMAS = frozenset(("items", "prefixItems", "additionalProperties", "anyOf", "oneOf"))


def close_objects(schema: Any) -> Any:
    """The schema with ``additionalProperties: false`` in every object that lists its properties.

    So the model cannot invent a key. Schemas that an ``allOf`` combines stay open, because each would forbid the keys
    of the others.
    """
    return _close(schema, frozenset(_find_combined(schema)))


def _close(schema: Any, combined: frozenset[str]) -> Any:
    if isinstance(schema, list):
        return [_close(item, combined) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = dict(schema)
    for key in SCHEMA_MAPS & schema.keys():
        if isinstance(schema[key], Mapping):
            inner[key] = {
                name: item if f"#/{key}/{name}" in combined else _close(item, combined)
                for name, item in schema[key].items()
            }
    for key in SCHEMAS & schema.keys():
        inner[key] = _close(schema[key], combined)
    kinds = schema.get("type", "object")
    may_be_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
    if may_be_object and isinstance(schema.get("properties"), Mapping) and "allOf" not in schema:
        inner.setdefault("additionalProperties", False)
    return inner


def _find_combined(schema: Any) -> Iterator[str]:
    """The references that an ``allOf`` combines with other schemas."""
    for value in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _find_combined(value)
    parts = schema.get("allOf") if isinstance(schema, Mapping) else None
    if isinstance(parts, list) and (len(parts) > 1 or "properties" in schema):
        yield from (part["$ref"] for part in parts if isinstance(part, Mapping) and "$ref" in part)
