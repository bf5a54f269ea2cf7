"""A tool's JSON Schema: whether it is one, and whether arguments fit it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.dialects import NO_FORMATS, undated, validator_class
from dualtune_mlx.tools.time_limit import limited_time

LONGEST_SHOWN = 200
"""Characters of a value that an error repeats."""
LONGEST_CHECK = 1.0
"""Seconds of computing that a check may take. A server chooses the schema, and small ones can ask for centuries."""
NOT_JSON = (TypeError, ValueError, RecursionError)
"""What ``json.dumps`` raises: for other objects, NaN, halves of surrogate pairs, very long numbers, and many levels."""
UNENDING = "a tool's schema cannot be checked to its end"
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
        json.dumps(schema, ensure_ascii=False).encode()
        validator_class(schema).check_schema(schema, NO_FORMATS)
    except SchemaError as error:
        raise ToolError(
            "a tool's schema is not a valid JSON Schema",
            where=f"{where} at {error.json_path}",
            got=error.message[:LONGEST_SHOWN],
            expected="JSON Schema",
            fix=LEAVE_OUT,
        ) from error
    except NOT_JSON as error:
        raise ToolError(
            "a tool's schema cannot be read",
            where=where,
            got=str(error)[:LONGEST_SHOWN],
            expected="Unicode text, and levels and digits of measured number",
            fix=LEAVE_OUT,
        ) from error
    return schema


def check_arguments(arguments: Mapping[str, Any], tool: Tool) -> None:
    """Check a call's arguments against the tool's whole schema.

    Raises:
        ToolError: when they do not fit (the message names the place), are not JSON, or the schema cannot be checked: it
            refers to something outside itself or, without an end, to itself, or its check takes too long.
    """
    where = tool.full_name
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except NOT_JSON as broken:  # sent, a lone surrogate would end the whole session
        raise ToolError(
            "the arguments cannot be written as JSON",
            where=where,
            got=str(broken)[:LONGEST_SHOWN],
            expected="Unicode text, finite numbers, lists and objects",
            fix="call the tool with arguments that are JSON",
        ) from broken
    error = best_match(Validator(tool.parameters, where).find_errors(arguments))
    if error is not None:
        raise ToolError(
            f"the arguments do not fit the tool's schema: {error.message[:LONGEST_SHOWN]}",
            where=f"{where} at {error.json_path}",
            got=_to_short_json(error.instance),
            expected=f"{error.validator}: {_to_short_json(error.validator_value)}",
            fix="call the tool with arguments that fit its schema",
        )


class Validator:
    """Checks values against a schema, within a limit of time. It fetches nothing.

    Args:
        schema: the schema of a tool.
        where: the tool, for messages.
    """

    def __init__(self, schema: Mapping[str, Any], where: str = "") -> None:
        self._schema, self._where = schema, where

    @cached_property
    def _validator(self) -> Any:
        # An empty registry: jsonschema would else fetch a remote $ref, and the server chooses the address.
        return validator_class(self._schema)(undated(self._schema), registry=Registry())

    def find_errors(self, value: Any, part: Any = None) -> list[ValidationError]:
        """What in a value does not fit the schema, or a part of it.

        Raises:
            ToolError: when that cannot be said.
        """
        with self._limited():
            return list(self._of(part).iter_errors(value))

    def fits(self, value: Any, part: Any = None) -> bool:
        """Whether a value fits the schema, or a part of it.

        Raises:
            ToolError: when that cannot be said.
        """
        with self._limited():
            return bool(self._of(part).is_valid(value))

    def _of(self, part: Any) -> Any:
        return self._validator if part is None else self._validator.evolve(schema=undated(part))

    @contextmanager
    def _limited(self) -> Iterator[None]:
        try:
            with limited_time(LONGEST_CHECK):
                yield
        except Unresolvable as missing:
            what, got = "a tool's schema has a $ref that leads nowhere", missing.ref
            raise self._error(what, got, "a $ref into the schema itself") from missing
        except RecursionError as endless:
            got = "a $ref that leads to itself, or too many levels"
            raise self._error(UNENDING, got, "a schema in which every $ref comes to an end") from endless
        except TimeoutError as endless:
            got = f"more than {LONGEST_CHECK:g} s of computing"
            raise self._error(UNENDING, got, "a schema whose parts apply to a value once") from endless
        except (ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as broken:
            what, got = "a tool's schema cannot be checked", f"{type(broken).__name__}: {broken}"
            raise self._error(what, got[:LONGEST_SHOWN], "a valid JSON Schema") from broken

    def _error(self, what: str, got: str, expected: str) -> ToolError:
        return ToolError(what, where=self._where or None, got=got, expected=expected, fix=LEAVE_OUT)


def _to_short_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)[:LONGEST_SHOWN]
    except NOT_JSON:
        return type(value).__name__
