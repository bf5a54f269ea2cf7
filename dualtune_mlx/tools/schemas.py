"""A tool's JSON Schema: whether it is one, and whether arguments fit it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema.exceptions import SchemaError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.dialects import NO_FORMATS, validator_class

LONGEST_SHOWN = 200
"""Characters of a value that an error repeats."""
LEAVE_OUT = "leave the tool out, or exclude it in the MCP configuration; its authors can mend its schema"


def read_schema(schema: Any, where: str) -> dict[str, Any]:
    """An input schema as a server sent it, with ``"type": "object"``, which some servers leave out.

    Args:
        schema: the schema; None stands for one without parameters.
        where: the tool, for messages.

    Raises:
        ToolError: when it is not a valid JSON Schema, or describes something that is not an object.
    """
    schema = {} if schema is None else schema
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise ToolError(
            "a tool's schema does not describe an object",
            where=where,
            got=_to_short_json(schema),
            expected='{"type": "object", …}',
            fix=LEAVE_OUT,
        )
    schema = {**schema, "type": "object"}
    try:
        validator_class(schema).check_schema(schema, NO_FORMATS)
    except SchemaError as error:
        raise ToolError(
            "a tool's schema is not a valid JSON Schema",
            where=f"{where} at {error.json_path}",
            got=error.message[:LONGEST_SHOWN],
            expected="JSON Schema",
            fix=LEAVE_OUT,
        ) from error
    return schema


def check_arguments(arguments: Mapping[str, Any], tool: Tool) -> None:
    """Check a call's arguments against the tool's whole schema.

    Raises:
        ToolError: when they do not fit (the message names the place), are not JSON, or the schema refers to something
            outside itself or, without an end, to itself.
    """
    where = tool.full_name
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as broken:  # sent, a lone surrogate would end the whole session
        raise ToolError(
            "the arguments cannot be written as JSON",
            where=where,
            got=str(broken)[:LONGEST_SHOWN],
            expected="Unicode text, finite numbers, lists and objects",
            fix="call the tool with arguments that are JSON",
        ) from broken
    try:
        error = best_match(new_validator(tool.parameters).iter_errors(arguments))
    except Unresolvable as missing:
        raise ToolError(
            "a tool's schema has a $ref that leads nowhere",
            where=where,
            got=missing.ref,
            expected="a $ref into the schema itself",
            fix=LEAVE_OUT,
        ) from missing
    except RecursionError as endless:
        raise ToolError(
            "a tool's schema cannot be checked to its end",
            where=where,
            got="a $ref that leads to itself, or too many levels",
            expected="a schema in which every $ref comes to an end",
            fix=LEAVE_OUT,
        ) from endless
    if error is not None:
        raise ToolError(
            f"the arguments do not fit the tool's schema: {error.message[:LONGEST_SHOWN]}",
            where=f"{where} at {error.json_path}",
            got=_to_short_json(error.instance),
            expected=f"{error.validator}: {_to_short_json(error.validator_value)}",
            fix="call the tool with arguments that fit its schema",
        )


def new_validator(schema: Mapping[str, Any]) -> Any:
    """The validator of a schema; it fetches nothing."""
    # An empty registry: jsonschema would else fetch a remote $ref, and the server chooses the address. And where a $ref
    # leads to the schema as a whole, its "$schema" would bring back the validator that reads patterns as Python does.
    undated = {key: value for key, value in schema.items() if key != "$schema"}
    return validator_class(schema)(undated, registry=Registry())


def _to_short_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:LONGEST_SHOWN]
