"""Objects that list their properties take no others while arguments are written, so that no key is invented.

Schemas that are combined (by ``allOf``, or by ``anyOf`` beside ``properties``) describe one value together: each closed
by itself would forbid the keys of the others. So they stay open, and the object is closed to keys that none lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any

from dualtune_mlx.grammar.keywords import IN_PLACE, kinds
from dualtune_mlx.grammar.plain import DEFINITIONS
from dualtune_mlx.grammar.walking import map_subschemas

OF_OTHERS = frozenset(("additionalProperties", "patternProperties"))
"""Keywords that say which other keys an object takes."""
OF_INSIDES = OF_OTHERS | {"properties", "required", "minProperties", "maxProperties", "items", "prefixItems"}
"""Keywords that say something about the inside of a value."""
ITEMS = "[]"
"""Stands for an array's items among the names of properties."""

Shared = frozenset[str] | None
"""The names that several of the combined schemas list, so that their values are combined as well; None: every name."""


def close_objects(schema: Any) -> Any:
    """A schema in plain form, with ``additionalProperties: false`` in every object that lists its properties."""
    if not isinstance(schema, Mapping):
        return schema
    closer = _Closer(schema.get("$defs", {}))
    closed = closer.close({key: value for key, value in schema.items() if key != "$defs"})
    return {**closed, "$defs": closer.closed} if closer.closed else closed


class _Closer:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._names: dict[tuple[str, bool, Shared], str] = {}
        self._counts: dict[str, Counter[str]] = {}
        self.closed: dict[str, Any] = {}

    def close(self, schema: Any) -> Any:
        """A schema that nothing is combined with."""
        if not isinstance(schema, Mapping):
            return schema
        groups = len(schema.get("allOf", ())) + sum(key in schema for key in IN_PLACE if key != "allOf")
        if groups == 1 and not OF_INSIDES & schema.keys():
            return self._map(schema, False, frozenset())
        parts = list(self._parts(schema, set()))
        combined = groups > 0 or {"properties", "patternProperties"} <= schema.keys()
        closed = self._map(schema, combined, self._find_shared(schema, parts) if combined else frozenset())
        names = dict.fromkeys(n for part in parts for n in (*part.get("properties", ()), *part.get("required", ())))
        if not _may_close(schema, parts, len(names)):
            return closed
        if groups:  # after the others, which so keep the order of their properties
            return {"allOf": [closed, {"properties": dict.fromkeys(names, True), "additionalProperties": False}]}
        listed = {name: closed["properties"].get(name, True) for name in names}
        return {**closed, "properties": listed, "additionalProperties": False}

    def _map(self, schema: Any, combined: bool, shared: Shared) -> Any:
        """A schema that others are ``combined`` with, or not, and that stays open itself."""
        if not isinstance(schema, Mapping):
            return schema

        def change(item: Any, key: str, name: str) -> Any:
            if key in IN_PLACE:
                return self._map(item, True, shared) if combined else self.close(item)
            name = ITEMS if key in ("items", "prefixItems") else name
            together = combined if key in OF_OTHERS else shared is None or name in shared
            return self._map(item, True, None) if together else self.close(item)

        changed = map_subschemas(schema, change)
        if name := self._name(schema):
            changed["$ref"] = self._define(name, combined, shared)
        return changed

    def _name(self, schema: Mapping[str, Any]) -> str:
        """The definition that a schema refers to; "" where there is none."""
        name = str(schema.get("$ref", "")).removeprefix(DEFINITIONS)
        return name if name in self._definitions else ""

    def _define(self, name: str, combined: bool, shared: Shared) -> str:
        """The reference to the definition that is closed, or open because it is combined with others."""
        key = (name, combined, shared)
        if key not in self._names:
            number = sum(name == known for known, *_ in self._names)
            closed = self._names[key] = f"{name}.{number}" if number else name
            definition = self._definitions[name]
            self.closed[closed] = self._map(definition, True, shared) if combined else self.close(definition)
        return DEFINITIONS + self._names[key]

    def _parts(self, schema: Any, seen: set[str]) -> Iterator[Mapping[str, Any]]:
        """All schemas that describe a value together, or one instead of another, each once."""
        if not isinstance(schema, Mapping):
            return
        yield schema
        if (name := self._name(schema)) and name not in seen:
            seen.add(name)
            yield from self._parts(self._definitions[name], seen)
        for key in ("allOf", "anyOf", "oneOf"):
            for part in schema.get(key, ()):
                yield from self._parts(part, seen)

    def _find_shared(self, schema: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> Shared:
        if any("patternProperties" in p or isinstance(p.get("additionalProperties"), Mapping) for p in parts):
            return None
        return frozenset(name for name, count in self._count(schema).items() if count > 1)

    def _count(self, schema: Any) -> Counter[str]:
        """How many schemas that describe a value together list each name."""
        if not isinstance(schema, Mapping):
            return Counter()
        count = Counter([*schema.get("properties", ()), *(ITEMS for key in ("items", "prefixItems") if key in schema)])
        for part in schema.get("allOf", ()):
            count += self._count(part)
        for key in ("anyOf", "oneOf"):  # of which each is there instead of the others
            count += reduce(or_, map(self._count, schema.get(key, ())), Counter[str]())
        if name := self._name(schema):
            if name not in self._counts:
                self._counts[name] = Counter()  # of a definition that refers to itself
                self._counts[name] = self._count(self._definitions[name])
            count += self._counts[name]
        return count


def _may_close(schema: Mapping[str, Any], parts: list[Mapping[str, Any]], names: int) -> bool:
    """Whether an object lists its properties, may have as few of them, and says nothing about others."""
    lists = any("properties" in part for part in parts) and "object" in (kinds(schema) or ("object",))
    return lists and names >= schema.get("minProperties", 0) and not any(OF_OTHERS & part.keys() for part in parts)
