"""Schemas as servers write them: what may be written under them, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import check_compiles, explain_unwritable
from dualtune_mlx.tools.schemas import check_arguments

STRING = {"type": "string"}
ANY_OBJECT = {"type": "object", "properties": {}}


def tool(schema: dict[str, Any], **beside: Any) -> Tool:
    """A tool with one required parameter, ``v``."""
    return Tool("t", "", {"type": "object", "properties": {"v": schema}, "required": ["v"], **beside})


def can_write(schema: dict[str, Any], value: Any, **beside: Any) -> bool:
    """Whether a value can be written; one that can must also fit the schema."""
    written = explain_unwritable(tool(schema, **beside), {"v": value}) == ""
    if written:
        check_arguments({"v": value}, tool(schema, **beside))
    return written


@pytest.mark.parametrize(
    "schema",
    [
        ANY_OBJECT,  # as `inputs` of GitHub's actions_run_trigger, and `values` of helm_install
        {**ANY_OBJECT, "description": "inputs"},
        {**ANY_OBJECT, "minProperties": 1},
        {"anyOf": [ANY_OBJECT, {"type": "null"}]},
        {"$ref": "#/$defs/Any"},
        {"allOf": [ANY_OBJECT, {"required": ["ref"]}]},
    ],
)
def test_inside_a_schema_an_object_without_properties_takes_any(schema):
    defs = {"$defs": {"Any": ANY_OBJECT}}
    assert can_write(schema, {"ref": "main", "deep": {"a": [1, {}]}}, **defs)
    assert can_write({"type": "array", "items": schema}, [{"ref": "main"}, {"ref": "", "b": None}], **defs)


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"type": "object", "additionalProperties": STRING}, {"a": "1", "b": "2"}),
        ({"type": "object", "properties": {}, "additionalProperties": STRING}, {"a": "1"}),
        ({"type": "object", "additionalProperties": True}, {"a": 1}),
        ({"type": "object", "additionalProperties": {}}, {"a": 1}),
        ({"type": "object", "patternProperties": {"^x-": STRING}}, {"x-a": "1"}),
        ({"type": "object", "required": ["a"]}, {"a": 1}),
        ({"type": "object", "properties": {}, "minProperties": 1}, {"a": 1}),
        ({"type": "object", "anyOf": [{"properties": {"a": STRING}}, {"properties": {"b": STRING}}]}, {"b": "1"}),
        ({"type": "object", "$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": STRING}}}}, {"a": "1"}),
        ({"type": "object", "const": {"a": 1}}, {"a": 1}),
        ({"type": "object", "enum": [{"a": 1}, {"a": 2}]}, {"a": 2}),
        ({"type": "object", "unevaluatedProperties": True}, {"a": 1}),
        ({"type": "object", "unevaluatedProperties": {}}, {"a": 1}),
    ],
)
def test_a_tool_whose_schema_is_a_map_takes_arguments(schema, arguments):
    assert Tool("t", "", schema).takes_arguments
    assert explain_unwritable(Tool("t", "", schema), arguments) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}, "required": []},
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"type": "object", "additionalProperties": {"not": {}}},
        {"type": "object", "unevaluatedProperties": False},
        {"type": "object", "title": "Empty", "$defs": {"A": {"type": "string"}}, "x-order": 1, "$comment": "none"},
    ],
)
def test_a_tool_whose_schema_says_nothing_takes_none(schema):
    assert not Tool("t", "", schema).takes_arguments
    assert explain_unwritable(Tool("t", "", schema), {}) == ""
    assert "takes no arguments" in explain_unwritable(Tool("t", "", schema), {"a": 1})
    check_compiles(Tool("t", "", schema))


BOTH = {"properties": {"kind": STRING, "a": STRING, "b": STRING}, "required": ["kind"]}
ONE_OF_TWO = [{"required": ["a"]}, {"required": ["b"]}]


@pytest.mark.parametrize("choice", ["anyOf", "oneOf"])
@pytest.mark.parametrize("wrap", [lambda schema: schema, lambda schema: {"type": "array", "items": schema}])
def test_properties_beside_a_choice_are_one_object(choice, wrap):
    def write(schema, value):
        return can_write(wrap(schema), value if wrap(schema) is schema else [value])

    schema = {"type": "object", **BOTH, choice: ONE_OF_TWO}
    assert write(schema, {"kind": "x", "a": "1"}) and write(schema, {"b": "2", "kind": "x"})
    assert not write(schema, {"kind": "x"})
    assert not write(schema, {"kind": "x", "a": "1", "invented": 1})
    schema = {"type": "object", "properties": {"kind": STRING}, choice: [{"properties": {"n": {"type": "integer"}}}]}
    assert write(schema, {"kind": "x", "n": 1}) and write(schema, {"kind": "x"})
    assert not write(schema, {"kind": "x", "n": "1"})
    assert not write(schema, {"kind": "x", "invented": 1})


def test_a_reference_with_more_beside_it_is_one_object():
    base = {"type": "object", "properties": {"id": STRING}, "required": ["id"]}
    schema = {"$ref": "#/$defs/Base", "properties": {"extra": {"type": "integer"}}, "required": ["extra"]}
    assert can_write(schema, {"extra": 1, "id": "a"}, **{"$defs": {"Base": base}})
    assert not can_write(schema, {"extra": 1}, **{"$defs": {"Base": base}})
    assert not can_write(schema, {"extra": 1, "id": "a", "invented": 1}, **{"$defs": {"Base": base}})
    described = {"$ref": "#/$defs/Base", "description": "the base"}
    assert can_write(described, {"id": "a"}, **{"$defs": {"Base": base}})
    assert not can_write(described, {"id": "a", "invented": 1}, **{"$defs": {"Base": base}})


def test_before_2019_a_reference_stands_alone():
    draft7 = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"Text": STRING}}
    assert can_write({"$ref": "#/definitions/Text", "maxLength": 1}, "long", **draft7)


def test_chained_all_of_is_one_object():
    names = [{"properties": {name: STRING}, "required": [name]} for name in "abc"]
    schema = {"allOf": [{"allOf": [names[0], {"$ref": "#/$defs/B"}]}, names[2]]}
    assert can_write(schema, {"c": "3", "a": "1", "b": "2"}, **{"$defs": {"B": {"allOf": [names[1]]}}})
    assert not can_write(schema, {"a": "1", "c": "3"}, **{"$defs": {"B": {"allOf": [names[1]]}}})


def test_what_two_references_list_is_combined_in_turn():
    options = ({"properties": {"set": {"type": "object", "properties": {name: STRING}}}} for name in "ab")
    defs = {"$defs": dict(zip("AB", options, strict=True))}
    schema = {"allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}
    assert can_write(schema, {"set": {"b": "2", "a": "1"}}, **defs)
    assert not can_write(schema, {"set": {}, "invented": 1}, **defs)


def test_a_schema_that_nothing_fits_closes_what_it_stands_for():
    closed = {"type": "object", "properties": {"a": STRING, "old": {"not": {}}}, "additionalProperties": {"not": {}}}
    assert can_write(closed, {"a": "1"})
    assert not can_write(closed, {"old": "1"})
    assert not can_write(closed, {"b": "1"})


def test_older_dialects_are_read_as_such():
    draft4 = {"$schema": "http://json-schema.org/draft-04/schema#"}
    above = {"type": "integer", "minimum": 3, "exclusiveMinimum": True}
    assert can_write(above, 4, **draft4) and not can_write(above, 3, **draft4)
    pair = {"type": "array", "items": [STRING, {"type": "integer"}], "additionalItems": False}
    assert can_write(pair, ["a", 1], **draft4) and not can_write(pair, ["a", 1, 2], **draft4)
    assert can_write({"type": "array", "items": STRING, "additionalItems": False}, ["a", "b"], **draft4)
    draft3 = {"$schema": "http://json-schema.org/draft-03/schema#"}
    with pytest.raises(ToolError, match="cannot be enforced(?s:.*)draft-03"):
        check_compiles(Tool("t", "", {**draft3, "type": "object", "properties": {"a": {"required": True}}}))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("List/T", "#/$defs/List~1T"),
        ("a~b", "#/$defs/a~0b"),
        ("a b%", "#/$defs/a%20b%25"),
        ("Größe", "#/$defs/Gr%C3%B6%C3%9Fe"),
        ("x", "#named"),
        ("x", "https://example.org/x"),
    ],
)
def test_a_reference_leads_to_any_name(name, reference):
    identified = {"$anchor": "named"} if reference == "#named" else {}
    identified |= {"$id": reference} if reference.startswith("https") else {}
    defs = {"$defs": {name: {"type": "integer", **identified}}}
    assert can_write({"type": "array", "items": {"$ref": reference}}, [1], **defs)
    assert not can_write({"type": "array", "items": {"$ref": reference}}, ["1"], **defs)


def test_a_reference_into_another_parameter_is_followed():
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}}}
    assert explain_unwritable(Tool("t", "", parameters), {"a": 1, "b": 2}) == ""
    assert explain_unwritable(Tool("t", "", parameters), {"b": "2"}).startswith("$.b: ")


def test_what_is_required_can_be_written_though_it_is_not_listed():
    listed = {"type": "object", "properties": {"a": STRING}, "required": ["a", "b"]}
    assert can_write(listed, {"a": "1", "b": [2]})
    assert not can_write(listed, {"a": "1"})
    assert not can_write(listed, {"a": "1", "b": 2, "invented": 3})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "propertyNames": STRING}, {"a": 1}),
        ({"type": "array", "uniqueItems": False}, [1, 1]),
        ({"type": "array", "items": STRING, "minItems": 1.0, "maxItems": 2.0}, ["a"]),
        ({"type": "string", "minLength": 1.0, "uniqueItems": True}, "a"),
        *(({"type": "string", "format": name}, "any") for name in ("path", "password", "binary", "byte", "nanoid")),
        ({"type": "string", "not": False}, "a"),
        ({"type": "string", "if": {"const": "a"}}, "b"),
        ({"type": "array", "contains": STRING, "minContains": 0}, [1]),
        ({"type": "object", "dependentRequired": {"a": []}, "unevaluatedProperties": True}, {"a": 1}),
        ({"type": "number", "multipleOf": 0.01}, 4.02),
        ({"type": "string", "default": 5, "deprecated": True, "x-widget": "area", "examples": []}, "a"),
    ],
)
def test_a_keyword_that_says_nothing_is_no_obstacle(schema, value):
    assert can_write(schema, value)


def test_a_count_that_is_a_decimal_number_counts():
    assert not can_write({"type": "array", "items": STRING, "minItems": 1.0}, [])
    assert not can_write({"type": "number", "multipleOf": 0.01}, 4.025)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems: true"),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, "propertyNames: "),
        ({"if": {"const": 1}, "then": {"const": 2}}, "if: "),
        ({"type": "string", "pattern": "^(?!x)"}, "pattern '^(?!x)': look-around"),
        ({"type": "string", "pattern": r"\bfoo"}, "pattern '\\\\bfoo': look-around, a word boundary"),
        ({"type": "string", "pattern": "["}, "pattern '[': unterminated"),
        ({"type": "object", "patternProperties": {"(": True}}, "pattern '(': missing )"),
        ({"$ref": "#/$defs/Nowhere"}, "leads nowhere: #/$defs/Nowhere"),
        ({"$ref": "https://example.org/schema.json"}, "leads nowhere: https://example.org/schema.json"),
        (
            {"type": "object", "properties": {"a": STRING, "b": STRING, "c": STRING}, "minProperties": 2},
            "min/maxProperties",
        ),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "unsatisfiable"),
    ],
)
def test_what_cannot_be_enforced_is_named_with_its_place(schema, named):
    with pytest.raises(ToolError) as caught:
        check_compiles(tool(schema))
    assert "tool 't'" in caught.value.where
    assert named in caught.value.got


def test_a_schema_of_endless_references_is_refused():
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2000)} | {"d2000": STRING}
    with pytest.raises(ToolError, match="nested too deeply"):
        check_compiles(tool({"$ref": "#/$defs/d0"}, **{"$defs": chain}))
    bomb = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": STRING}
    check_compiles(tool({"$ref": "#/$defs/d0"}, **{"$defs": bomb}))


@pytest.mark.parametrize("said", [{"enum": ["today", "2026-05-06"]}, {"const": "today"}])
@pytest.mark.parametrize("name", ["date", "uri"])
def test_listed_values_are_written_whatever_format_stands_beside_them(said, name):
    assert can_write({"type": "string", "format": name, **said}, "today")
