"""Arguments that fit a schema, and arguments that do not, found without the package's own code."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import uuids
from hypothesis_jsonschema import from_schema
from jsonschema.validators import Draft202012Validator, validator_for

SEARCH = settings(
    database=None,
    derandomize=True,
    deadline=None,
    max_examples=50,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
EXPONENT = re.compile(r"\de[+-]?\d")
"""Decoding writes numbers with bounds without an exponent."""
OTHERS: tuple[Any, ...] = (17.5, "words", [], {"undeclared": True}, None, True)


def find_valid(schema: Any) -> dict[str, Any] | None:
    """Arguments that fit, with no more keys than the schema names and, if possible, half of these; None without any."""
    half = len(schema.get("properties", {})) // 2
    return next((found for size in (half, 0) if (found := search(schema, size)) is not None), None)


def search(schema: Any, size: int) -> dict[str, Any] | None:
    """Arguments that fit, of at least so many keys."""

    def wanted(value: Any) -> bool:
        return len(value) >= size and not EXPONENT.search(json.dumps(value))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = from_schema(
            without_others({"type": "object", **schema}), codec="ascii", custom_formats={"uuid": uuids().map(str)}
        )
        try:
            found: dict[str, Any] = find(arguments, wanted, settings=SEARCH)
        except NoSuchExample:
            return None
    return found


def without_others(schema: Any) -> Any:
    """The schema with objects that take none but the properties that they list."""
    if isinstance(schema, list):
        return [without_others(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: without_others(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema["properties"] and "type" in schema:
        closed["additionalProperties"] = False
    return closed


def find_invalid(schema: Any, valid: dict[str, Any] | None) -> Any:
    """Arguments that jsonschema refuses; None where it takes all that was tried."""
    check = validator_for(schema, default=Draft202012Validator)(schema)
    return next((value for value in spoil(schema, valid or {}) if not check.is_valid(value)), None)


def spoil(schema: Any, valid: dict[str, Any]) -> Iterator[Any]:
    """The arguments, each time with one thing about them changed."""
    for name in schema.get("required", ()):
        yield {key: value for key, value in valid.items() if key != name}
    for name in schema.get("properties", {}):
        yield from ({**valid, name: other} for other in OTHERS)
    yield {**valid, "undeclared": True}
