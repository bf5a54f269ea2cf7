"""Values as a person types them: read by the schema of their parameter, and checked at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.files import load_json
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import LONGEST_SHOWN, Validator

CORRECTION = re.compile(r"([^\s={\"]+)\s*=\s*(.*)", re.DOTALL)
SWITCHES = {"yes": True, "no": False, "on": True, "off": False, "true": True, "false": False}


def read_typed(tool: Tool, name: str, text: str) -> Any:
    """The value of a parameter that a person typed: as JSON, as text, as yes or no, or as a list with commas.

    Raises:
        UsageError: when the schema allows none of these.
    """
    readings = list(_list_readings(text))
    for value in readings:
        if not check_value(tool, name, value):
            return value
    raise UsageError(f"{name}: {check_value(tool, name, readings[0])}", expected="a value that fits")


def check_value(tool: Tool, name: str, value: Any) -> str:
    """Why a value alone does not fit its parameter; "" where it does."""
    errors = Validator(tool.parameters, tool.full_name).find_errors({name: value})
    own = (error for error in errors if list(error.absolute_path)[:1] == [name] or _is_unknown(error, name))
    return next((error.message[:LONGEST_SHOWN] for error in own), "")


def is_correction(tool: Tool, line: str) -> bool:
    """Whether a line is ``name=value`` with the name of a parameter."""
    found = CORRECTION.fullmatch(line)
    return found is not None and found[1] in tool.parameters.get("properties", {})


def read_correction(tool: Tool, arguments: Mapping[str, Any], line: str) -> dict[str, Any]:
    """The arguments with what a line changes: ``name=value``, ``name=`` for none, or all of them as JSON.

    Raises:
        UsageError: when the line is neither, or its value does not fit.
    """
    if line.startswith("{"):
        try:
            value: dict[str, Any] = load_json(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"this is not JSON: {error}", expected="all arguments as a JSON object") from error
        return value
    found = CORRECTION.fullmatch(line)
    if found is None or not is_correction(tool, line):
        names = ", ".join(tool.parameters.get("properties", {}))
        raise UsageError(f"type NAME=VALUE with one of these names: {names}", expected="NAME=VALUE")
    rest = {name: value for name, value in arguments.items() if name != found[1]}
    return {**rest, found[1]: read_typed(tool, found[1], found[2])} if found[2] else rest


def _list_readings(text: str) -> Iterator[Any]:
    with suppress(ValueError, RecursionError):
        yield load_json(text)
    yield text
    if text.lower() in SWITCHES:
        yield SWITCHES[text.lower()]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    yield [_read_part(part) for part in parts]
    yield parts


def _read_part(part: str) -> Any:
    try:
        return load_json(part)
    except (ValueError, RecursionError):
        return part


def _is_unknown(error: Any, name: str) -> bool:
    """Whether the schema takes no argument of this name."""
    return (
        error.validator in ("additionalProperties", "unevaluatedProperties") and json.dumps(name)[1:-1] in error.message
    )
