"""Where schemas stand inside a schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

BY_NAME = ("properties", "patternProperties", "dependentSchemas", "dependencies")
IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
ALONE = (
    *("items", "additionalItems", "unevaluatedItems", "additionalProperties", "unevaluatedProperties"),
    *("contains", "propertyNames", "not", "if", "then", "else"),
)


def map_subschemas(schema: Mapping[str, Any], change: Callable[[Any, str, str], Any]) -> dict[str, Any]:
    """The schema with each schema directly inside it changed.

    Args:
        schema: a schema that is an object. Definitions are not looked at.
        change: is called with a schema, with the keyword that it stands under, and with its name or number there
            ("" where it stands alone).
    """
    changed = dict(schema)
    for key, value in schema.items():
        if key in BY_NAME and isinstance(value, Mapping):
            changed[key] = {name: change(item, key, name) for name, item in value.items()}
        elif key in IN_LISTS and isinstance(value, list):
            changed[key] = [change(item, key, str(number)) for number, item in enumerate(value)]
        elif key in ALONE and isinstance(value, Mapping | bool):
            changed[key] = change(value, key, "")
    return changed
