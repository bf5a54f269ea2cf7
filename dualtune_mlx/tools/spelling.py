"""How a call's arguments are spelled, in training as in decoding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def spell_arguments(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The arguments as JSON, in the order in which constrained decoding writes them."""
    return json.dumps(sort_by_schema(arguments, schema), ensure_ascii=False)


def sort_by_schema(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the order of the schema's properties, which is the order of constrained decoding."""
    order = [name for name in schema.get("properties", {}) if name in arguments]
    return {name: arguments[name] for name in [*order, *(n for n in arguments if n not in order)]}
