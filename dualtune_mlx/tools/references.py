"""The ``$ref``s of a schema that was changed in places: they go on leading to what stood there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.keywords import DATA, NAMED
from dualtune_mlx.tools.schemas import Validator, read_schema

NOWHERE = (Unresolvable, ValueError, TypeError, AttributeError)
"""What ``referencing`` raises over references and identifiers that are none."""
DEFINITIONS = ("$defs", "definitions")
IDENTIFIERS = frozenset(("$id", "$anchor", "$schema"))
"""Keywords that a copy must not repeat."""


def keep_references(changed: Mapping[str, Any], tool: Tool) -> Mapping[str, Any]:
    """The changed schema of a tool, in which each ``$ref`` means what it means in the tool's own.

    A ``$ref`` into a place that was changed leads to a copy of what the tool's own schema has there.

    Raises:
        ToolError: when the tool's schema has a ``$ref`` and is not a valid JSON Schema.
    """
    if not any(_list_references(changed)):
        return changed
    original = read_schema(dict(tool.parameters), f"tool {tool.name!r}")
    copies = _Copies(original, changed)
    kept: dict[str, Any] = copies.redirect(changed)
    return {**kept, "$defs": {**kept.get("$defs", {}), **copies.definitions}} if copies.definitions else changed


def drop_unused_definitions(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without the definitions that nothing in it refers to."""
    definitions = {
        f"#/{key}/{name.replace('~', '~0').replace('/', '~1')}": (key, name, one)
        for key in DEFINITIONS
        for name, one in schema.get(key, {}).items()
    }
    body = {key: value for key, value in schema.items() if key not in DEFINITIONS}
    waiting, used = [*_list_references(body)], set[str]()
    while waiting:
        reference = unquote(waiting.pop())
        place = "/".join(reference.split("/")[:3])
        if not reference.startswith("#/"):  # by a name or an address, which may stand in any of them
            return schema
        if place in definitions and place not in used:
            used.add(place)
            waiting += _list_references(definitions[place][2])
    kept: dict[str, Any] = {}
    for place in used:
        key, name, one = definitions[place]
        kept.setdefault(key, {})[name] = one
    return {**body, **kept}


class _Copies:
    """The copies that the references of a changed schema lead to."""

    def __init__(self, original: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        self.definitions: dict[str, Any] = {}
        self._original, self._changed = References(original), References(changed)
        self._taken = {*original.get("$defs", {})}
        self._names: dict[str, str] = {}

    def redirect(self, schema: Any) -> Any:
        """The schema with other references where they led into a changed place."""
        if isinstance(schema, list):
            return [self.redirect(item) for item in schema]
        if not isinstance(schema, Mapping):
            return schema
        found = {key: self._redirect_value(key, value) for key, value in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found["$ref"] = self._lead(reference)
        return found

    def _redirect_value(self, key: str, value: Any) -> Any:
        if key in NAMED and isinstance(value, Mapping):
            return {name: self.redirect(schema) for name, schema in value.items()}
        return value if key in DATA else self.redirect(value)

    def _lead(self, reference: str) -> str:
        target = self._original.find(reference)
        if target == self._changed.find(reference):
            return reference
        if reference not in self._names:
            name = f"original-{len(self._names) + 1}"
            while name in self._taken:
                name += "-"
            self._names[reference] = name  # before its references are looked at: they may lead back
            self.definitions[name] = self.redirect(_drop_identifiers(target))
        return f"#/$defs/{self._names[reference]}"


class References:
    """A schema as what its parts refer to."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema

    @cached_property  # most schemas have no reference
    def _resolver(self) -> Any:
        resource = DRAFT202012.create_resource(self._schema)
        uri = resource.id() or ""
        return Registry().with_resource(uri, resource).crawl().resolver(uri)

    def find(self, reference: str) -> Any:
        """What a reference leads to; None where that is nothing."""
        try:
            return self._resolver.lookup(reference).contents
        except NOWHERE:
            return None

    @cached_property
    def _validator(self) -> Validator:
        return Validator(self._schema)

    def fits(self, part: Any, value: Any) -> bool:
        """Whether a value fits a part of the schema; where that cannot be said, it does not."""
        try:
            return self._validator.fits(value, part)
        except ToolError:
            return False


def _list_references(schema: Any) -> Iterator[str]:
    """Every ``$ref`` in a schema."""
    if isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
        yield schema["$ref"]
    for part in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _list_references(part)


def _drop_identifiers(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_drop_identifiers(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _drop_identifiers(value) for key, value in schema.items() if key not in IDENTIFIERS}
