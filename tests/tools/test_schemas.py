from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments, read_schema


def test_a_missing_schema_or_type_is_an_object() -> None:
    assert read_schema(None, "s/t") == {"type": "object"}
    assert read_schema({"properties": {}}, "s/t") == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "schema",
    [True, [], {"type": "string"}, {"type": ["object"]}, {"properties": 5}, {"required": "a"}, {"$schema": 5}],
)
def test_what_is_no_schema_of_an_object_is_refused(schema: Any) -> None:
    with pytest.raises(ToolError, match="s/t"):
        read_schema(schema, "s/t")


@pytest.mark.parametrize("schema", [{"type": "string"}, {"properties": {"a": {"type": "float"}}}])
def test_the_way_out_is_to_leave_out_the_tool_alone(schema: Any) -> None:
    with pytest.raises(ToolError) as refused:
        read_schema(schema, "s/t")
    fix = str(refused.value.fix)
    assert "leave the tool out" in fix and "exclude" in fix and "remove the server" not in fix


@pytest.mark.parametrize("parameters", [{"properties": 5}, {"properties": []}, {"required": "a"}, {"required": True}])
def test_a_tool_whose_parameters_cannot_be_listed_is_refused(parameters: Any) -> None:
    (key,) = parameters
    with pytest.raises(ToolError, match=f"'{key}'(?s:.*)tool 'odd'(?s:.*)expected: an? "):
        Tool("odd", "", parameters)


def test_an_older_dialect_is_read_as_such() -> None:
    number = {"type": "integer", "minimum": 0, "exclusiveMinimum": True}
    draft4 = {"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": number}}
    tool = Tool("t", parameters=read_schema(draft4, "s/t"))
    check_arguments({"a": 1}, tool)
    with pytest.raises(ToolError, match=r"at \$\.a"):
        check_arguments({"a": 0}, tool)


def test_a_reference_outside_the_schema_is_never_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text('{"type": "integer"}')
    tool = Tool("t", parameters={"type": "object", "properties": {"a": {"$ref": elsewhere.as_uri()}}}, server="s")
    with pytest.raises(ToolError, match="leads nowhere(?s:.*)s/t(?s:.*)schema.json"):
        check_arguments({"a": 1}, tool)


def test_reading_a_schema_leaves_it_as_it_is():
    schema = {"properties": {"a": {}}}
    assert read_schema(schema, "s/t") == {"properties": {"a": {}}, "type": "object"}
    assert schema == {"properties": {"a": {}}}


@pytest.mark.parametrize(("value", "fits"), [(4.02, True), (4.025, False), (-0.07, True), (3, True), (1e300, True)])
def test_a_multiple_is_one_in_decimal_arithmetic(value: float, fits: bool) -> None:
    tool = Tool("t", "", {"type": "object", "properties": {"price": {"type": "number", "multipleOf": 0.01}}})
    with nullcontext() if fits else pytest.raises(ToolError, match="not a multiple"):
        check_arguments({"price": value}, tool)


def test_properties_that_are_not_listed_obey_their_own_schema() -> None:
    tool = Tool("t", "", {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}})
    check_arguments({"a": "x", "b": 1}, tool)
    with pytest.raises(ToolError, match=r"at \$\.b(?s:.*)expected: type"):
        check_arguments({"a": "x", "b": "1"}, tool)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "allOf": [{"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
    ],
)
def test_a_schema_that_leads_to_itself_without_an_end_is_refused(schema):
    with pytest.raises(ToolError, match="cannot be checked to its end(?s:.*)where: s/t(?s:.*)fix: "):
        check_arguments({"a": 1}, Tool("t", "", schema, "s"))


def test_arguments_of_too_many_levels_are_refused():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ToolError, match="cannot be written as JSON"):
        check_arguments({"a": nested}, Tool("t"))
