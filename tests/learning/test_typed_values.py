"""Values as people type them."""

from __future__ import annotations

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.learning.typed_values import check_value, read_typed
from dualtune_mlx.tools import Tool

TOOL = Tool(
    "t",
    "",
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "text": {"type": "string"},
            "count": {"type": "integer"},
            "either": {"type": ["string", "integer", "null"]},
            "on": {"type": "boolean"},
            "names": {"type": "array", "items": {"type": "string"}},
            "sizes": {"type": "array", "items": {"type": "integer"}},
            "point": {"$ref": "#/$defs/point"},
        },
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    },
)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "a b", "a b"),
        ("text", '"a b"', "a b"),
        ("text", '""', ""),
        ("text", "5", "5"),
        ("text", "null", "null"),
        ("count", "5", 5),
        ("either", "5", 5),
        ("either", "null", None),
        ("either", "five", "five"),
        ("on", "yes", True),
        ("on", "false", False),
        ("names", "a, 5", ["a", "5"]),
        ("names", '["a, b"]', ["a, b"]),
        ("sizes", "1, 2", [1, 2]),
        ("point", '{"x": 1.5}', {"x": 1.5}),
    ],
)
def test_a_value_is_read_as_its_parameter_wants_it(name, text, value):
    read = read_typed(TOOL, name, text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(("name", "text"), [("count", "five"), ("on", "maybe"), ("point", '{"y": 1}'), ("sizes", "a")])
def test_what_does_not_fit_is_refused_by_name(name, text):
    with pytest.raises(UsageError, match=f"^{name}: "):
        read_typed(TOOL, name, text)


def test_a_value_is_checked_alone():
    assert check_value(TOOL, "count", 1) == "" and "not of type" in check_value(TOOL, "count", "x")
    assert "nothing" in check_value(TOOL, "nothing", 1)
