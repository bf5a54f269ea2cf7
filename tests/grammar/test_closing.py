"""Which objects are closed to keys that they do not list."""

from __future__ import annotations

import json

import pytest

from dualtune_mlx.grammar.closing import close_objects

A, B = ({"properties": {name: {"type": "boolean"}}, "required": [name]} for name in "ab")
SHUT = {**A, "additionalProperties": False}
MERGED = {"allOf": [A, B]}
DEFS = {"A": A, "B": B}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"type": "object", **A}, {"type": "object", **SHUT}),
        (A, SHUT),
        ({"type": ["object", "null"], **A}, {"type": ["object", "null"], **SHUT}),
        ({"type": "string", **A}, {"type": "string", **A}),
        ({"type": ["string", "null"], **A}, {"type": ["string", "null"], **A}),
        ({**A, "additionalProperties": True}, {**A, "additionalProperties": True}),
        ({"type": "object"}, {"type": "object"}),
        ({"items": A}, {"items": SHUT}),
        ({"prefixItems": [A, True]}, {"prefixItems": [SHUT, True]}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [SHUT, {"type": "null"}]}),
        ({"additionalProperties": A}, {"additionalProperties": SHUT}),
        ({"$defs": DEFS}, {"$defs": {"A": SHUT, "B": {**B, "additionalProperties": False}}}),
        (MERGED, MERGED),
        ({**A, "allOf": [B]}, {**A, "allOf": [B]}),
        ({"properties": {"x": MERGED}}, {"properties": {"x": MERGED}, "additionalProperties": False}),
        (
            {"$defs": DEFS, "allOf": [{"$ref": "#/$defs/A"}, {"required": ["b"]}]},
            {
                "$defs": {"A": A, "B": {**B, "additionalProperties": False}},
                "allOf": [{"$ref": "#/$defs/A"}, {"required": ["b"]}],
            },
        ),
        (
            {"$defs": {"A": A}, "allOf": [{"$ref": "#/$defs/A"}]},
            {"$defs": {"A": SHUT}, "allOf": [{"$ref": "#/$defs/A"}]},
        ),
        ({"default": A, "enum": [A], "const": A}, {"default": A, "enum": [A], "const": A}),
        (
            {"properties": {"properties": A, "items": True}},
            {"properties": {"properties": SHUT, "items": True}, "additionalProperties": False},
        ),
    ],
)
def test_what_is_closed_and_what_stays_open(parameters, expected):
    before = json.dumps(parameters)
    assert close_objects(parameters) == expected
    assert json.dumps(parameters) == before
