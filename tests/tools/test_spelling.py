"""Arguments are spelled as constrained decoding writes them, at all depths."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.spelling import sort_by_schema, spell_arguments, spell_pieces, spell_value

TEXT = {"type": "string"}


def of(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", **keywords}


def an_object(*names: str, **others: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(names, TEXT), **others}


PAIR = an_object("b", "a")
IN_ORDER = {"b": "1", "a": "2"}
TURNED = {"a": "2", "b": "1"}


@pytest.mark.parametrize(
    ("schema", "given", "written"),
    [
        (PAIR, TURNED, IN_ORDER),
        (of(properties={"x": PAIR}), {"x": TURNED}, {"x": IN_ORDER}),
        (of(properties={"x": {"type": "array", "items": PAIR}}), {"x": [TURNED]}, {"x": [IN_ORDER]}),
        (of(properties={"x": {"type": "array", "prefixItems": [PAIR]}}), {"x": [TURNED]}, {"x": [IN_ORDER]}),
        (an_object("y", additionalProperties=PAIR), {"x": TURNED}, {"x": IN_ORDER}),
        (of(properties={"x": {"$ref": "#/$defs/P"}}, **{"$defs": {"P": PAIR}}), {"x": TURNED}, {"x": IN_ORDER}),
        (of(properties={"x": {"anyOf": [PAIR, {"type": "null"}]}}), {"x": TURNED}, {"x": IN_ORDER}),
        ({"type": "object", "anyOf": [PAIR, an_object("c", "a")]}, {"a": "2", "c": "1"}, {"c": "1", "a": "2"}),
        ({"type": "object", "anyOf": [PAIR, an_object("a", "b")]}, TURNED, IN_ORDER),
        ({"type": "object", "allOf": [an_object("b"), an_object("a")]}, TURNED, IN_ORDER),
    ],
)
def test_order(schema: dict[str, Any], given: dict[str, Any], written: dict[str, Any]) -> None:
    assert json.dumps(sort_by_schema(given, schema)) == json.dumps(written)
    assert explain_unwritable(Tool("tool", "", schema), given) == ""


def test_a_schema_that_refers_to_itself() -> None:
    schema = an_object("b", "a", **{"$ref": "#"})
    assert json.dumps(sort_by_schema(TURNED, schema)) == json.dumps(IN_ORDER)
    tree = of(properties={"b": TEXT, "a": {"$ref": "#"}})
    assert json.dumps(sort_by_schema({"a": TURNED, "b": "1"}, tree)) == json.dumps({"b": "1", "a": IN_ORDER})


def test_unnamed_properties_come_last_as_they_are() -> None:
    assert [*sort_by_schema({"z": 1, "a": "2", "y": 3, "b": "1"}, PAIR)] == ["b", "a", "z", "y"]


def test_a_character_that_decoding_escapes() -> None:
    assert spell_arguments({"a": "x\x7fé"}, PAIR) == '{"a": "x\\u007fé"}'
    assert explain_unwritable(Tool("tool", "", PAIR), {"a": "x\x7fé"}) == ""


def test_the_pieces_are_the_json_with_their_places():
    value = {"a": [1, -2.5, True, None, "ö\\", [], {}], "b": {"c": {"d": [[]]}}, "": [{"": 1}], "t": (0.5,)}
    assert spell_value(value) == json.dumps(value, ensure_ascii=False)
    assert [place for piece, place in spell_pieces(value) if piece == "-2.5"] == ["$.a[1]"]
    assert json.loads(spell_value("x\x7f")) == "x\x7f"


@pytest.mark.parametrize(("number", "written"), [(1e-05, "0.00001"), (-1.5e16, "-15000000000000000"), (2.5, "2.5")])
def test_a_number_is_written_without_an_exponent(number, written):
    assert spell_value([number]) == f"[{written}]"
    assert json.loads(written) == number
    bounded = {"type": "object", "properties": {"x": {"type": "number", "minimum": -1e17}}}
    assert explain_unwritable(Tool("tool", "", bounded), {"x": number}) == ""


@pytest.mark.parametrize("listing", [{"enum": [1, {"b": 1, "a": [2]}]}, {"const": {"b": 1, "a": [2]}}])
def test_a_value_that_the_schema_lists_is_written_as_it_lists_it(listing):
    schema = {"type": "object", "properties": {"v": listing}}
    assert spell_arguments({"v": {"a": [2], "b": 1}}, schema) == '{"v": {"b": 1, "a": [2]}}'
    assert explain_unwritable(Tool("tool", "", schema), {"v": {"a": [2], "b": 1}}) == ""


def test_what_is_required_and_not_listed_is_written_in_the_order_of_the_requirements():
    schema = {"type": "object", "properties": {"v": {}}, "required": ["b", "a"]}
    assert [*sort_by_schema({"a": 1, "b": 2, "v": 3}, schema)] == ["v", "b", "a"]
    assert explain_unwritable(Tool("tool", "", schema), {"a": 1, "b": 2}) == ""


@pytest.mark.parametrize("kind", ["circle", "square"])
def test_of_alternatives_with_the_same_names_the_one_that_fits_gives_the_order(kind):
    circle = {"properties": {"kind": {"const": "circle"}, "size": {}, "at": {}}, "required": ["kind"]}
    square = {"properties": {"at": {}, "size": {}, "kind": {"const": "square"}}, "required": ["kind"]}
    schema = {"type": "object", "properties": {"v": {"anyOf": [circle, square]}}}
    arguments = {"v": {"size": 1, "kind": kind, "at": 2}}
    expected = [circle, square][kind == "square"]["properties"]
    assert [*sort_by_schema(arguments, schema)["v"]] == [*expected]
    assert explain_unwritable(Tool("tool", "", schema), arguments) == ""


def test_an_alternative_that_leads_nowhere_does_not_fit():
    schema = {
        "type": "object",
        "properties": {"v": {"anyOf": [{"$ref": "#/$defs/Nowhere"}, {"properties": {"a": {}}}]}},
    }
    assert sort_by_schema({"v": {"b": 1, "a": 2}}, schema) == {"v": {"a": 2, "b": 1}}
