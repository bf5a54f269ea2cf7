"""Which objects are closed to keys that they do not list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dualtune_mlx.grammar.closing import close_objects

A, B = ({"properties": {name: {"type": "boolean"}}, "required": [name]} for name in "ab")
SHUT = {**A, "additionalProperties": False}
NO_OTHERS = {"additionalProperties": False}
SHUT_B = {**B, "additionalProperties": False}
MERGED = {"allOf": [A, B]}
TO_A, TO_B = ({"$ref": f"#/$defs/{name}"} for name in "AB")


def only(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    """A combination of schemas that is closed to other names."""
    return {"allOf": [schema, {"properties": dict.fromkeys(names, True), **NO_OTHERS}]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object", **A}, {"type": "object", **SHUT}),
        (A, SHUT),
        ({"type": ["object", "null"], **A}, {"type": ["object", "null"], **SHUT}),
        ({"type": "string", **A}, {"type": "string", **A}),
        ({"type": ["string", "null"], **A}, {"type": ["string", "null"], **A}),
        ({**A, "additionalProperties": True}, {**A, "additionalProperties": True}),
        ({**A, "patternProperties": {"^x": B}}, {**A, "patternProperties": {"^x": B}}),
        ({"type": "object"}, {"type": "object"}),
        ({"required": ["a"]}, {"required": ["a"]}),
        (True, True),
        # what is required can be written, also where it is not listed
        ({**A, "required": ["z"]}, {"properties": {**A["properties"], "z": True}, "required": ["z"]} | NO_OTHERS),
        ({**A, "minProperties": 2}, {**A, "minProperties": 2}),
        ({"items": A}, {"items": SHUT}),
        ({"prefixItems": [A, True]}, {"prefixItems": [SHUT, True]}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [SHUT, {"type": "null"}]}),
        ({"type": "object", "oneOf": [A, B]}, {"type": "object", "oneOf": [SHUT, SHUT_B]}),
        ({"additionalProperties": A}, {"additionalProperties": SHUT}),
        ({"allOf": [A]}, {"allOf": [SHUT]}),
        # combined schemas describe one object, which is closed to what none of them lists
        (MERGED, only(MERGED, "a", "b")),
        ({"allOf": [MERGED]}, {"allOf": [only(MERGED, "a", "b")]}),
        ({**A, "allOf": [B]}, only({**A, "allOf": [B]}, "a", "b")),
        (
            {**A, "anyOf": [B, {"required": ["c"]}]},
            only({**A, "anyOf": [B, {"required": ["c"]}]}, "a", "b", "c"),
        ),
        ({"anyOf": [A], "oneOf": [B]}, only({"anyOf": [A], "oneOf": [B]}, "a", "b")),
        ({**A, "anyOf": [B, {"additionalProperties": True}]}, {**A, "anyOf": [B, {"additionalProperties": True}]}),
        ({"properties": {"x": MERGED}}, {"properties": {"x": only(MERGED, "a", "b")}, **NO_OTHERS}),
        # inside them, what one of them lists is closed, and what several list is combined in turn
        (
            {"allOf": [{"properties": {"x": A}}, {"properties": {"y": A}}]},
            only({"allOf": [{"properties": {"x": SHUT}}, {"properties": {"y": SHUT}}]}, "x", "y"),
        ),
        (
            {"allOf": [{"properties": {"x": A}}, {"properties": {"x": B}}]},
            only({"allOf": [{"properties": {"x": A}}, {"properties": {"x": B}}]}, "x"),
        ),
        (
            {"anyOf": [{"items": A}, {"items": B}], "minItems": 1, "items": True},
            {"anyOf": [{"items": A}, {"items": B}], "minItems": 1, "items": True},
        ),
        # a definition is there closed, open, or both
        ({**TO_A, "$defs": {"A": A, "B": B}}, {**TO_A, "$defs": {"A": SHUT}}),
        (
            {"allOf": [TO_A, TO_B], "$defs": {"A": A, "B": B}},
            {**only({"allOf": [TO_A, TO_B]}, "a", "b"), "$defs": {"A": A, "B": B}},
        ),
        (
            {"items": TO_A, "prefixItems": [{**B, **TO_A}], "$defs": {"A": A}},
            {
                "items": TO_A,
                "prefixItems": [only({**B, "$ref": "#/$defs/A.1"}, "b", "a")],
                "$defs": {"A": SHUT, "A.1": A},
            },
        ),
        ({"enum": [A], "const": A}, {"enum": [A], "const": A}),
        (
            {"properties": {"properties": A, "items": True}},
            {"properties": {"properties": SHUT, "items": True}, "additionalProperties": False},
        ),
    ],
)
def test_what_is_closed_and_what_stays_open(schema, expected):
    before = json.dumps(schema)
    assert close_objects(schema) == expected
    assert json.dumps(schema) == before
