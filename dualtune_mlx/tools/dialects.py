"""The dialects of JSON Schema, as ``jsonschema`` checks them, with patterns and decimal numbers read as JSON does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend, validator_for

from dualtune_mlx.tools.patterns import compile_pattern

NO_FORMATS = FormatChecker(())
"""For ``check_schema``: Python cannot say whether a pattern of ECMAScript's is one. ``compile_pattern`` can."""


def validator_class(schema: Mapping[str, Any]) -> Any:
    """The validator of the schema's own dialect (``$schema``); MCP's default is 2020-12."""
    if not isinstance(schema.get("$schema", ""), str):
        return _extended(Draft202012Validator)  # which refuses such a $schema by name
    return _extended(validator_for(schema, default=Draft202012Validator))


@lru_cache
def _extended(validator: Any) -> Any:
    rules = (_pattern, _pattern_properties, _additional_properties, _multiple_of)
    names = ("pattern", "patternProperties", "additionalProperties", "multipleOf")
    known = {name: rule for name, rule in zip(names, rules, strict=True) if name in validator.VALIDATORS}
    return extend(validator, known)


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not compile_pattern(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    for name, value in instance.items() if validator.is_type(instance, "object") else ():
        for pattern in patterns:
            if compile_pattern(pattern).search(name):
                yield from validator.descend(value, patterns[pattern], path=name, schema_path=pattern)


def _additional_properties(validator: Any, others: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    listed, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items() if validator.is_type(instance, "object") else ():
        if name in listed or any(compile_pattern(pattern).search(name) for pattern in patterns):
            continue
        if others is False:
            yield ValidationError(f"Additional properties are not allowed ({name!r} was unexpected)")
        else:
            yield from validator.descend(value, others, path=name)


def _multiple_of(validator: Any, divisor: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    """In decimal arithmetic: 4.02 is a multiple of 0.01."""
    if validator.is_type(instance, "number") and Fraction(str(instance)) % Fraction(str(divisor)):
        yield ValidationError(f"{instance!r} is not a multiple of {divisor}")
