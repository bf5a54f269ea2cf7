"""The parameters of a tool, those inside objects and lists included: what its schema says of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dualtune_mlx.tools.references import References
from dualtune_mlx.tools.schemas import read_schema
from dualtune_mlx.tools.types import Tool

MOST = 1000
"""How many places of a schema are looked at. One whose definitions refer to each other has any number."""
DATE_FORMATS = frozenset(("date", "date-time"))
_DATE_WORD = re.compile(r"(?<![a-z])(date|day|deadline|due)(?![a-z])|YYYY|ISO[ -]?8601")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])|_")


@dataclass(frozen=True)
class Parameter:
    """A parameter, or a part of one."""

    path: str
    """Where it stands: ``path``, ``edits[].oldText``."""
    schema: Mapping[str, Any]
    """What the schema says at that place."""
    alternatives: tuple[Mapping[str, Any], ...]
    """What it may be: the schemas that a ``$ref``, ``anyOf`` or ``oneOf`` there leads to."""
    required: bool
    """Whether the object that it is in must have it. Items of a list are required."""

    @property
    def description(self) -> str:
        """What the schema says of it in words; "" for nothing."""
        described = (one.get("description") for one in (self.schema, *self.alternatives))
        return next((text for text in described if isinstance(text, str)), "")

    @property
    def is_date(self) -> bool:
        """Whether it is a date: by its format, else by its name or its description."""
        strings = [one for one in self.alternatives if one.get("type") == "string" and "enum" not in one]
        words = _CAMEL_CASE.sub(" ", self.path.rpartition(".")[2]).lower()
        by_words = _DATE_WORD.search(words) or _DATE_WORD.search(self.description)
        return any(one["format"] in DATE_FORMATS if "format" in one else by_words for one in strings)


def list_parameters(tool: Tool) -> tuple[Parameter, ...]:
    """The parameters of a tool in the order of its schema, each before its parts; of a very large schema the first.

    A part of itself, as a folder in a folder is, is listed once.

    Raises:
        ToolError: when the schema is not a valid JSON Schema.
    """
    return _list_parameters(tool.name, json.dumps(dict(tool.parameters)))


@lru_cache(maxsize=256)  # checking a schema takes as long as some tokens
def _list_parameters(name: str, text: str) -> tuple[Parameter, ...]:
    schema = read_schema(json.loads(text), f"tool {name!r}")
    return tuple(_Walk(schema).properties(schema, "", ()))


class _Walk:
    """A walk over a schema. ``inside`` are the references that lead to where it is."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._references = References(schema)
        self._left = MOST

    def properties(self, schema: Mapping[str, Any], path: str, inside: tuple[str, ...]) -> Iterator[Parameter]:
        required = schema.get("required", ())
        for name, item in schema.get("properties", {}).items():
            yield from self._parameter(item, f"{path}.{name}" if path else name, name in required, inside)

    def _parameter(self, schema: Any, path: str, required: bool, inside: tuple[str, ...]) -> Iterator[Parameter]:
        found = [*self._alternatives(schema, inside)]
        own = schema if isinstance(schema, Mapping) else {}
        yield Parameter(path, own, tuple(one for one, _ in found), required)
        for one, way in found:
            yield from self.properties(one, path, way)
            if isinstance(one.get("items"), Mapping):
                yield from self._parameter(one["items"], f"{path}[]", True, way)

    def _alternatives(
        self, schema: Any, inside: tuple[str, ...]
    ) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
        """The schemas without a choice or reference of their own, each with the references that lead to it."""
        self._left -= 1
        if not isinstance(schema, Mapping) or self._left < 0:
            return
        reference = schema.get("$ref")
        choices = [item for key in ("anyOf", "oneOf", "allOf") for item in schema.get(key, ())]
        if reference is not None:
            if reference not in inside:
                yield from self._alternatives(self._references.find(reference), (*inside, reference))
        elif choices and (len(choices) == 1 or "allOf" not in schema):
            for one in choices:
                yield from self._alternatives(one, inside)
        else:
            yield schema, inside
