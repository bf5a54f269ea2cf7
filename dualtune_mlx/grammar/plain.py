"""A schema in plain form, which says the same and says it in one way.

It is of dialect 2020-12, has no annotations and no keyword that says nothing, and each ``$ref`` leads to
``#/$defs/NAME``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from referencing import Registry
from referencing.jsonschema import DRAFT202012, specification_with

from dualtune_mlx.grammar.keywords import drop_silent
from dualtune_mlx.grammar.walking import map_subschemas
from dualtune_mlx.tools.dialects import validator_class
from dualtune_mlx.tools.references import NOWHERE

DEFINITIONS = "#/$defs/"
REF_ALONE = re.compile(r"draft-0[3-7]\b")
"""The dialects in which what stands beside a ``$ref`` says nothing."""


def to_plain(schema: Any) -> Any:
    """The schema in plain form. What cannot be enforced stays in it, and so does a ``$ref`` that leads nowhere."""
    return _Plain(schema).schema if isinstance(schema, Mapping) else schema


class _Plain:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        dialect = str(schema.get("$schema", ""))
        self._keywords = frozenset(validator_class(schema).VALIDATORS)
        self._ref_alone = bool(REF_ALONE.search(dialect))
        self._specification = specification_with(dialect, default=DRAFT202012)
        self._names: dict[int, str] = {}
        self._definitions: dict[str, Any] = {}
        resolver = Registry().resolver_with_root(self._specification.create_resource(schema))
        self.schema = self._rewrite(schema, resolver)
        if self._definitions and isinstance(self.schema, dict):
            self.schema["$defs"] = self._definitions
        if "draft-03" in dialect:  # in which keywords have other meanings
            self.schema = {"$schema": dialect}

    def _rewrite(self, schema: Any, resolver: Any) -> Any:
        if not isinstance(schema, Mapping):
            return schema
        if self._ref_alone and "$ref" in schema:
            schema = {"$ref": schema["$ref"]}
        resolver = resolver.in_subresource(self._specification.create_resource(schema))  # which may have an $id
        inner = map_subschemas(schema, lambda item, *_: self._rewrite(item, resolver))
        if isinstance(schema.get("$ref"), str):
            inner["$ref"] = self._lead(schema["$ref"], resolver)
        return drop_silent(inner, self._keywords)

    def _lead(self, reference: str, resolver: Any) -> str:
        """The reference to the definition that holds what a reference leads to."""
        try:
            found = resolver.lookup(reference)
        except NOWHERE:
            return reference
        if (name := self._names.get(id(found.contents))) is None:
            words = re.findall(r"\w+", reference)
            name = self._names[id(found.contents)] = f"{words[-1] if words else 'root'}.{len(self._names)}"
            self._definitions[name] = self._rewrite(found.contents, found.resolver)
        return DEFINITIONS + name
