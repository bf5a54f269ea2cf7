"""The dialects of JSON Schema, as ``jsonschema`` checks them, with patterns and decimal numbers read as JSON does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend, validator_for

from dualtune_mlx.tools.keywords import DATA, NAMED
from dualtune_mlx.tools.patterns import find_pattern
from dualtune_mlx.tools.time_limit import deeper, seconds_left

NO_FORMATS = FormatChecker(())
"""For ``check_schema``: Python cannot say whether a pattern of ECMAScript's is one. ``compile_pattern`` can."""

DEEPEST = 120
"""Keywords that are checked inside each other. Far below Python's own limit, at which ``referencing`` panics."""
UNEVALUATED = {"unevaluatedItems", "unevaluatedProperties"}
Rule = Callable[..., Iterator[ValidationError] | None]
"""Checks one keyword: of a validator, the keyword's value, an instance and the schema it yields the errors."""


def undated(schema: Any) -> Any:
    """The schema without any ``$schema``: from there, ``jsonschema`` would go on with validators of its own, which read
    patterns as Python does and know no limit of time.

    Raises:
        ValueError: when it has ``unevaluatedProperties`` beside ``patternProperties``, which ``jsonschema`` matches.
    """
    found = set[str]()
    schema = _undated(schema, found)
    if {"unevaluatedProperties", "patternProperties"} <= found:
        raise ValueError("unevaluatedProperties and patternProperties are not checked together")
    return schema


def _undated(schema: Any, found: set[str]) -> Any:
    if isinstance(schema, list):
        return [_undated(item, found) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found.update(schema)
    kept = {key: value for key, value in schema.items() if key != "$schema"}
    for key, value in kept.items():
        if key in NAMED and isinstance(value, Mapping):
            kept[key] = {name: _undated(one, found) for name, one in value.items()}
        elif key not in DATA:
            kept[key] = _undated(value, found)
    return kept


def validator_class(schema: Mapping[str, Any]) -> Any:
    """The validator of the schema's own dialect (``$schema``); MCP's default is 2020-12."""
    if not isinstance(schema.get("$schema", ""), str):
        return _extended(Draft202012Validator)  # which refuses such a $schema by name
    return _extended(validator_for(schema, default=Draft202012Validator))


@lru_cache
def _extended(validator: Any) -> Any:
    rules = (_pattern, _pattern_properties, _additional_properties, _multiple_of, _unique_items)
    names = ("pattern", "patternProperties", "additionalProperties", "multipleOf", "uniqueItems")
    known = {name: rule for name, rule in zip(names, rules, strict=True) if name in validator.VALIDATORS}
    late = {name: _after_others(name, validator.VALIDATORS[name]) for name in UNEVALUATED & {*validator.VALIDATORS}}
    return extend(validator, {name: _timed(rule) for name, rule in {**validator.VALIDATORS, **known, **late}.items()})


def _timed(rule: Rule) -> Rule:
    def timed(*given: Any) -> Iterator[ValidationError]:
        seconds_left()
        with deeper(DEEPEST):
            yield from rule(*given) or ()

    return timed


def _after_others(name: str, rule: Rule) -> Rule:
    """``jsonschema`` finds what was evaluated by walks that know no limit of time. The check of the other keywords,
    which does, goes as long a way before."""

    def after_others(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        list(validator.descend(instance, {key: one for key, one in schema.items() if key != name}))
        yield from rule(validator, value, instance, schema) or ()

    return after_others


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not find_pattern(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    for name, value in instance.items() if validator.is_type(instance, "object") else ():
        for pattern in patterns:
            if find_pattern(pattern, name):
                yield from validator.descend(value, patterns[pattern], path=name, schema_path=pattern)


def _additional_properties(validator: Any, others: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    listed, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items() if validator.is_type(instance, "object") else ():
        if name in listed or any(find_pattern(pattern, name) for pattern in patterns):
            continue
        if others is False:
            yield ValidationError(f"Additional properties are not allowed ({name!r} was unexpected)")
        else:
            yield from validator.descend(value, others, path=name)


def _multiple_of(validator: Any, divisor: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    """In decimal arithmetic: 4.02 is a multiple of 0.01."""
    if validator.is_type(instance, "number") and Fraction(str(instance)) % Fraction(str(divisor)):
        yield ValidationError(f"{instance!r} is not a multiple of {divisor}")


def _unique_items(validator: Any, wanted: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if wanted and validator.is_type(instance, "array") and len(set(map(_freeze, instance))) < len(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


def _freeze(value: Any) -> Any:
    """What equals the same of an equal JSON value alone: 1 is 1.0, and neither is true."""
    if isinstance(value, Mapping):
        return frozenset((name, _freeze(one)) for name, one in value.items())
    return tuple(map(_freeze, value)) if isinstance(value, list | tuple) else (isinstance(value, bool), value)
