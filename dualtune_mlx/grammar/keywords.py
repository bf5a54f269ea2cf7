"""The keywords of JSON Schema: which are enforced while arguments are written, and which say nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ENFORCED = {
    *("$ref", "$defs", "allOf", "anyOf", "oneOf", "const", "enum", "type"),
    *("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
    *("items", "prefixItems", "minItems", "maxItems"),
    *("minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""The keywords that decoding enforces. Others are refused where they say something."""
FORMATS = {"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
"""The formats that decoding writes. Others are annotations, as JSON Schema has it by default."""
OF_KIND = {
    **dict.fromkeys(("uniqueItems", "contains", "unevaluatedItems"), "array"),
    **dict.fromkeys(("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"), "object"),
    "unevaluatedProperties": "object",
}
"""Keywords that say something about one kind of value alone."""
IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf")
"""Keywords that combine the schema with others."""
COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def drop_silent(schema: Mapping[str, Any], dialect: frozenset[str]) -> dict[str, Any] | bool:
    """The schema without the keywords that say nothing, with the others as 2020-12 has them.

    Args:
        schema: a schema whose inner schemas are so already.
        dialect: the keywords of the schema's dialect that say something.
    """
    if _says_all(schema.get("not", False)):
        return False
    kept = {key: value for key, value in schema.items() if key in dialect and not _is_silent(key, value, schema)}
    if isinstance(kept.get("items"), list):  # before 2020-12
        kept["prefixItems"] = kept.pop("items")
        if "additionalItems" in kept:
            kept["items"] = kept["additionalItems"]
    kept.pop("additionalItems", None)
    for key in COUNTS:
        if isinstance(kept.get(key), float):
            kept[key] = int(kept[key])
    for bound in ("Minimum", "Maximum"):  # in draft 4 a flag beside the bound
        if schema.get(f"exclusive{bound}") is True:
            kept[f"exclusive{bound}"] = kept.pop(bound.lower())
    in_place = {key: kept.pop(key) for key in IN_PLACE if key in kept}
    return {**kept, **in_place}  # the order in which properties are written


def kinds(schema: Mapping[str, Any]) -> list[str] | None:
    """The types that a schema names; None where it names none."""
    named = schema.get("type")
    return [named] if isinstance(named, str) else named


def _is_silent(key: str, value: Any, schema: Mapping[str, Any]) -> bool:
    named = kinds(schema)
    if named is not None and OF_KIND.get(key, named[0]) not in named:
        return True
    return key in SILENT and SILENT[key].holds(value, schema)


def _says_all(schema: Any) -> bool:
    """Whether every value fits a schema in plain form."""
    return schema is True or schema == {}


class Silence(NamedTuple):
    """When a keyword says nothing."""

    where: str
    """In words: the keyword says nothing where it …"""
    holds: Callable[[Any, Mapping[str, Any]], bool]
    """By the keyword's value and the schema around it."""


SILENT = {
    **dict.fromkeys(
        ("properties", "patternProperties", "required", "minItems", "minLength", "minProperties"),
        Silence("is empty", lambda value, _: not value),
    ),
    **dict.fromkeys(
        ("items", "unevaluatedItems", "unevaluatedProperties"),
        Silence("is `true` or `{}`", lambda value, _: _says_all(value)),
    ),
    "format": Silence(
        "names a format that is not written, or stands beside `enum` or `const`",
        lambda name, schema: name not in FORMATS or "enum" in schema or "const" in schema,
    ),
    "uniqueItems": Silence("is `false`", lambda flag, _: not flag),
    "propertyNames": Silence(
        'is `{"type": "string"}`',
        lambda names, _: _says_all(names) or names in ({"type": "string"}, {"type": ["string"]}),
    ),
    "not": Silence("is `false` (and `{}` fits nothing)", lambda value, _: value is False),
    "if": Silence(
        "has neither `then` nor `else`",
        lambda _, schema: _says_all(schema.get("then", True)) and _says_all(schema.get("else", True)),
    ),
    "contains": Silence(
        "has `minContains: 0` and no `maxContains`",
        lambda _, schema: schema.get("minContains") == 0 and "maxContains" not in schema,
    ),
    "dependentRequired": Silence("has only empty lists", lambda names, _: not any(names.values())),
    "dependentSchemas": Silence(
        "has only schemas that say nothing", lambda schemas, _: all(map(_says_all, schemas.values()))
    ),
    "dependencies": Silence(
        "has only empty lists and schemas that say nothing",
        lambda items, _: all(item == [] or _says_all(item) for item in items.values()),
    ),
}
