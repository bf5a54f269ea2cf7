"""The parameters of a tool, wherever its schema says what they are."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools.parameters import MOST, list_parameters

STRING = {"type": "string"}


def parameters(schema: dict[str, Any]) -> dict[str, Any]:
    return {one.path: one for one in list_parameters(Tool("t", "", schema))}


def test_every_parameter_has_a_path_and_its_parts_come_behind_it():
    edit = {"type": "object", "properties": {"old": STRING, "new": STRING}, "required": ["old"]}
    found = parameters(
        {
            "properties": {
                "path": STRING,
                "edits": {"type": "array", "items": edit},
                "to": {"$ref": "#/$defs/edit"},
                "zone": {"anyOf": [STRING, {"type": "null"}], "description": "where"},
                "old": {"allOf": [{"$ref": "#/$defs/edit"}]},
            },
            "required": ["path", "to"],
            "$defs": {"edit": {**edit, "description": "an edit"}},
        }
    )
    inside = ["edits", "edits[]", "edits[].old", "edits[].new", "to", "to.old", "to.new", "zone"]
    assert list(found) == ["path", *inside, "old", "old.old", "old.new"]
    required = [path for path, one in found.items() if one.required]
    assert required == ["path", "edits[]", "edits[].old", "to", "to.old", "old.old"]
    assert [one["type"] for one in found["zone"].alternatives] == ["string", "null"]
    assert found["zone"].description == "where"
    assert found["to"].description == "an edit"


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/properties/a"}, "b": STRING}},
        {"properties": {"a": {"$ref": "#/$defs/none"}, "b": STRING}},
        {"properties": {"a": True, "b": {"allOf": [STRING, {"maxLength": 3}]}}},
    ],
    ids=["to itself", "to nowhere", "anything"],
)
def test_what_cannot_be_known_has_no_alternatives(schema):
    found = parameters(schema)
    assert list(found) == ["a", "b"]
    assert found["a"].alternatives == ()
    assert len(found["b"].alternatives) == 1


def test_a_part_of_itself_is_listed_once():
    folder = {"type": "object", "properties": {"name": STRING, "inside": {"$ref": "#/$defs/folder"}}}
    found = parameters({"properties": {"root": {"$ref": "#/$defs/folder"}}, "$defs": {"folder": folder}})
    assert list(found) == ["root", "root.name", "root.inside"]


def test_definitions_that_refer_to_each_other_end():
    names = [f"d{i}" for i in range(40)]
    choice = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    found = parameters({"properties": {"a": choice}, "$defs": dict.fromkeys(names, choice)})
    assert 0 < len(found) <= MOST


@pytest.mark.parametrize(
    ("name", "schema", "is_date"),
    [
        ("x", {**STRING, "format": "date"}, True),
        ("x", {**STRING, "format": "date-time"}, True),
        ("x", {"anyOf": [{**STRING, "format": "date"}, {"type": "null"}]}, True),
        ("due_date", STRING, True),
        ("startDate", STRING, True),
        ("deadline", STRING, True),
        ("x", {**STRING, "description": "The day, as YYYY-MM-DD"}, True),
        ("x", {**STRING, "description": "The date of the flight"}, True),
        ("update", STRING, False),
        ("candidate", {**STRING, "description": "who is updated daily"}, False),
        ("date", {**STRING, "format": "email"}, False),
        ("day", {**STRING, "enum": ["monday", "friday"]}, False),
        ("date", {"type": "integer"}, False),
    ],
)
def test_a_date_is_known_by_format_name_or_description(name, schema, is_date):
    assert parameters({"properties": {name: schema}})[name].is_date is is_date


def test_a_broken_schema_is_refused_by_name():
    with pytest.raises(ToolError, match="not a valid JSON Schema(?s:.*)tool 't'"):
        parameters({"properties": {"a": {"properties": 5}}})
