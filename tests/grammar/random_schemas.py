"""Random schemas of tools, made of all that decoding enforces."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c d", "é", 'q"'])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=4)
SCALARS = st.none() | st.booleans() | st.integers(-99, 99) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2))
PATTERNS = ["^[a-c]{1,3}$", "^x", "[0-9]$", r"^\w+\.\d$", "^(a|bc)*$"]
COUNTS = st.integers(0, 3)


def optional(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the keywords."""
    return st.fixed_dictionaries({}, optional=keywords)


def kind(name: str, keywords: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of one type."""
    return keywords.map(lambda found: {"type": name, **found})


STRINGS = kind("string", optional(minLength=COUNTS, maxLength=st.integers(2, 5), pattern=st.sampled_from(PATTERNS)))
INTEGERS = kind(
    "integer", optional(minimum=st.integers(-20, 5), maximum=st.integers(3, 200), multipleOf=st.integers(1, 7))
)
NUMBERS = kind(
    "number", optional(exclusiveMinimum=st.integers(-9, 2), maximum=st.integers(1, 50), multipleOf=st.just(0.25))
)
LEAVES = st.one_of(
    *(STRINGS, INTEGERS, NUMBERS, st.just(True), st.just({})),
    *(st.just({"type": "boolean"}), st.just({"type": ["boolean", "null"]}), st.just({"type": ["string", "integer"]})),
    st.lists(VALUES, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    VALUES.map(lambda value: {"const": value}),
)
REFERENCES = st.sampled_from(["#/$defs/A", "#/$defs/B~1c"]).map(lambda reference: {"$ref": reference})


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of objects, without their type."""
    return optional(
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, max_size=2, unique=True),
        additionalProperties=st.booleans() | inner,
    )


def schemas(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas of any value."""
    return st.recursive(leaves, _extend, max_leaves=6)


def _extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    parts = st.lists(objects(inner), min_size=1, max_size=2)
    return st.one_of(
        kind("object", objects(inner)),
        kind("array", optional(items=inner, prefixItems=some, minItems=st.integers(0, 2), maxItems=st.integers(1, 3))),
        some.map(lambda options: {"anyOf": options}),
        st.tuples(objects(inner), parts).map(lambda pair: {"type": "object", **pair[0], "anyOf": pair[1]}),
        st.tuples(objects(inner), parts).map(lambda pair: {"type": "object", **pair[0], "allOf": pair[1]}),
        st.tuples(objects(inner), inner).map(lambda pair: {"allOf": [{"type": "object", **pair[0]}, pair[1]]}),
    )


def _tool_schema(definitions: dict[str, Any], parameter: Any, root: dict[str, Any]) -> dict[str, Any]:
    properties = {"v": parameter, **root.get("properties", {})}
    return {"type": "object", **root, "properties": properties, "$defs": definitions}


ANY = schemas(LEAVES)
ANY_WITH_REFERENCES = schemas(LEAVES | REFERENCES)
TOOL_SCHEMAS = st.builds(
    _tool_schema, st.fixed_dictionaries({"A": ANY, "B/c": ANY}), ANY_WITH_REFERENCES, objects(ANY_WITH_REFERENCES)
)
"""Schemas of tools that take arguments."""
