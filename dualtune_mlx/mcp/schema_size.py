"""How large a schema is when it is applied: references may multiply a small one without measure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dualtune_mlx.tools.references import References

APPLIED = ("allOf", "anyOf", "oneOf", "dependentSchemas")
"""Keywords whose schemas apply to the same value, beside what a ``$ref`` leads to."""


def count_applied(schema: Mapping[str, Any]) -> int:
    """The most subschemas that a value anywhere in the arguments is held to, references followed.

    Raises:
        RecursionError: when references lead to references too often.
    """
    counts = _Counts(schema)
    return max(map(counts.count, _walk(schema)))


class _Counts:
    """Counts the subschemas that apply to one value together. What a reference leads to is counted once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._references = References(schema)
        self._behind: dict[str, int] = {}

    def count(self, schema: Any) -> int:
        if not isinstance(schema, Mapping):
            return 1
        together = (part for key in APPLIED if key in schema for part in _list_parts(schema[key]))
        return 1 + sum(map(self.count, together)) + self._count_behind(schema.get("$ref"))

    def _count_behind(self, reference: Any) -> int:
        if not isinstance(reference, str):
            return 0
        if reference not in self._behind:
            self._behind[reference] = 0  # one that leads to itself
            self._behind[reference] = self.count(self._references.find(reference))
        return self._behind[reference]


def _list_parts(value: Any) -> Iterable[Any]:
    """The values in a JSON value. It may be data that only looks like a schema."""
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _walk(schema: Any) -> Iterator[Any]:
    yield schema
    for part in _list_parts(schema):
        yield from _walk(part)
