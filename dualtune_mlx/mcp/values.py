"""Values of a configuration file, each of its type. No message shows a value that may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualtune_mlx.errors import UsageError

JSON_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


def read_strings(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = read_value(entry, key, list, [], where)
    for index, value in enumerate(values):
        check_type(value, str, f"{where}, {key!r}[{index}]", "a string")
    return tuple(values)


def read_positive(entry: Mapping[str, Any], key: str, default: float | None, where: str) -> Any:
    value = entry.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UsageError(
            "the MCP configuration has a value out of range",
            where=f"{where}, {key!r}",
            got=value if isinstance(value, int | float) else name_type(value),
            expected="a positive number",
        )
    return value


def read_value(entry: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    value = entry.get(key)
    if value is None:
        return default
    check_type(value, kind, f"{where}, {key!r}", JSON_NAMES[kind])
    return value


def check_type(value: Any, kind: type, where: str, expected: str) -> None:
    """Refuse a value of another type. The message has only the type: the value may be a secret."""
    if not isinstance(value, kind):
        raise UsageError(
            "the MCP configuration has a value of the wrong type",
            where=where,
            got=name_type(value),
            expected=expected,
            fix=f"write {expected} there",
        )


def name_type(value: Any) -> str:
    return JSON_NAMES[type(value)]
