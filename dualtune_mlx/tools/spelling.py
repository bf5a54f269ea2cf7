"""How a call's arguments are spelled, in training as in decoding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

from dualtune_mlx.tools.references import References


def spell_arguments(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The arguments as JSON, in the order in which constrained decoding writes them."""
    return spell_value(sort_by_schema(arguments, schema))


def spell_value(value: Any) -> str:
    """A value as JSON, as constrained decoding can write it."""
    return "".join(piece for piece, _ in spell_pieces(value))


def spell_pieces(value: Any, place: str = "$") -> Iterator[tuple[str, str]]:
    """The pieces of a value's JSON, each with its place in the value, such as ``$.edits[0].path``.

    It is that of ``json.dumps`` but for what constrained decoding writes otherwise: a delete character is escaped, and
    a number has no exponent.
    """
    if isinstance(value, Mapping) and value:
        for number, (name, item) in enumerate(value.items()):
            inside = f"{place}.{name}"
            yield f"{', ' if number else '{'}{_spell_leaf(name)}: ", inside
            yield from spell_pieces(item, inside)
        yield "}", place
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            yield ", " if number else "[", f"{place}[{number}]"
            yield from spell_pieces(item, f"{place}[{number}]")
        yield "]", place
    else:
        yield _spell_leaf(value), place


def _spell_leaf(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "e" in text:
        return f"{Decimal(text):f}"
    return text.replace("\x7f", "\\u007f")


def sort_by_schema(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the order of the schema's properties, at all depths: constrained decoding writes no other.

    Properties that the schema does not name come last, as they are.
    """
    sorted_arguments: dict[str, Any] = _sort(arguments, [schema], References(schema))
    return sorted_arguments


def _sort(value: Any, schemas: Sequence[Any], references: References) -> Any:
    """A value in the order of all the schemas that say something about it."""
    if not isinstance(value, Mapping | list | tuple):
        return value
    applied = [part for schema in schemas for part in _applied(schema, value, references)]
    for listed in chain.from_iterable((*schema.get("enum", ()), schema.get("const")) for schema in applied):
        if json.dumps(listed, sort_keys=True) == json.dumps(value, sort_keys=True):
            return listed
    if not isinstance(value, Mapping):
        return [_sort(item, _item_schemas(applied, number), references) for number, item in enumerate(value)]
    named = _named(applied)
    order = [*(name for name in named if name in value), *(name for name in value if name not in named)]
    return {name: _sort(value[name], _property_schemas(applied, name), references) for name in order}


def _applied(
    schema: Any, value: Any, references: References, followed: frozenset[str] = frozenset()
) -> list[Mapping[str, Any]]:
    """A schema and those that it combines or refers to; of alternatives first the one that suits the value best."""
    if not isinstance(schema, Mapping):
        return []
    found = [schema]
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in followed:
        found += _applied(references.find(reference), value, references, followed | {reference})
    for keyword in ("allOf", "anyOf", "oneOf"):
        options = list(schema.get(keyword, ()))
        if keyword != "allOf" and isinstance(value, Mapping):
            options.sort(key=lambda option: _suits(option, value, references, followed), reverse=True)
        found += chain.from_iterable(_applied(option, value, references, followed) for option in options)
    return found


def _suits(schema: Any, value: Mapping[str, Any], references: References, followed: frozenset[str]) -> tuple[bool, int]:
    """Whether an object fits a schema, and how many of its names the schema knows."""
    known = _named(_applied(schema, value, references, followed)).keys() & value
    return references.fits(schema, value), len(known)


def _named(applied: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """The names of the properties, and then those that are required and not listed."""
    found = [name for schema in applied for name in _properties(schema)]
    return dict.fromkeys([*found, *(name for schema in applied for name in schema.get("required", ()))])


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema.get("properties", {})
    return found


def _property_schemas(applied: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [_properties(schema).get(name, schema.get("additionalProperties")) for schema in applied]


def _item_schemas(applied: Iterable[Mapping[str, Any]], number: int) -> list[Any]:
    return [_item_schema(schema, number) for schema in applied]


def _item_schema(schema: Mapping[str, Any], number: int) -> Any:
    first = schema.get("prefixItems", ())
    return first[number] if number < len(first) else schema.get("items")
