"""What is left of a schema when some arguments are settled: exactly the arguments that fit beside them."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.grammar import check_compiles
from dualtune_mlx.mcp.pinned_arguments import fill_pinned, hide_arguments
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
PIN = {"repo": "/srv/repo"}
COMMIT = {"properties": {"repo": TEXT, "msg": TEXT}, "required": ["repo", "msg"]}
CLOSED = {"additionalProperties": False}
POINT = {"type": "object", "properties": {"x": NUMBER}, "required": ["x"]}


def tool(**schema: Any) -> Tool:
    return Tool("t", "", {"type": "object", **schema}, "s")


def fits(arguments: dict[str, Any], schema: Tool) -> bool:
    try:
        check_arguments(arguments, schema)
    except ToolError:
        return False
    return True


SCHEMAS: dict[str, dict[str, Any]] = {
    "at the top": COMMIT,
    "in anyOf": {"anyOf": [COMMIT]},
    "in oneOf": {"oneOf": [COMMIT]},
    "in allOf": {"allOf": [{"properties": {"repo": TEXT}, "required": ["repo"]}, {"properties": {"msg": TEXT}}]},
    "in one branch": {"anyOf": [{**COMMIT, **CLOSED}, {"properties": {"url": TEXT}, "required": ["url"], **CLOSED}]},
    "behind a $ref": {"$ref": "#/$defs/commit", "$defs": {"commit": COMMIT}},
    "behind two": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": COMMIT}},
    "behind a $ref in anyOf": {"anyOf": [{"$ref": "#/definitions/c"}], "definitions": {"c": COMMIT}},
    "beside a $ref": {"$ref": "#/$defs/m", **COMMIT, "$defs": {"m": {"required": ["msg"]}}},
    "beside names of another": {
        "$ref": "#/$defs/c",
        "properties": {"more": NUMBER},
        "$defs": {"c": {"required": ["repo"], "additionalProperties": TEXT}},
    },
    "required alone": {"properties": {"msg": TEXT}, "required": ["repo"]},
    "one of two": {"properties": {"repo": TEXT, "url": TEXT}, "anyOf": [{"required": ["repo"]}, {"required": ["url"]}]},
    "named by another": {
        "properties": {"repo": TEXT, "msg": {"$ref": "#/properties/repo"}, "url": {"$ref": "#/$defs/u"}},
        "$defs": {"u": {"$ref": "#/properties/repo"}},
    },
    "by its pattern": {"properties": {"repo": TEXT, "msg": TEXT}, "patternProperties": {"^re": {"minLength": 3}}},
    "in a closed object": {**COMMIT, **CLOSED},
    "an enum that has it": {"properties": {"repo": {"enum": ["/srv/repo", "/etc"]}, "msg": TEXT}},
    "counted": {"properties": {"repo": TEXT, "msg": TEXT}, "minProperties": 2, "maxProperties": 2},
    "alone in a closed branch": {
        "anyOf": [{"properties": {"repo": TEXT}, "required": ["repo"], **CLOSED}, {"required": ["msg"]}],
        "properties": {"repo": TEXT, "msg": TEXT},
    },
    "recursive": {"properties": {"repo": TEXT, "msg": {"anyOf": [TEXT, {"$ref": "#"}]}}},
}
VALUES = {"msg": "fix", "url": "http://a", "more": 1}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_what_fits_beside_a_pinned_argument_is_what_is_shown(schema: dict[str, Any]) -> None:
    whole = tool(**schema)
    shown = hide_arguments(whole, PIN)
    check_compiles(shown)
    assert shown.parameters.get("properties", {}).keys().isdisjoint(PIN)
    check_the_same_fits(whole, shown)


def check_the_same_fits(whole: Tool, shown: Tool) -> None:
    allowed = 0
    for count in range(len(VALUES) + 1):
        for names in combinations(VALUES, count):
            arguments = {name: VALUES[name] for name in names}
            filled = fill_pinned({**arguments, "repo": "/etc"}, whole, PIN)
            assert filled == {**arguments, **PIN}
            assert fits(filled, whole) is fits(arguments, shown), arguments
            allowed += fits(filled, whole)
    assert allowed


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name != "recursive"])
def test_no_trace_of_it_is_shown(name: str) -> None:
    assert '"repo"' not in json.dumps(dict(hide_arguments(tool(**SCHEMAS[name]), PIN).parameters))


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"if": {"required": ["repo"]}, "then": {"required": ["msg"]}, "else": {"required": ["url"]}}, ["msg"]),
        ({"if": {"properties": {"repo": {"const": "a"}}}, "then": {"required": ["msg"]}}, None),
        ({"dependentRequired": {"repo": ["msg"], "msg": ["repo", "url"]}}, ["msg"]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"repo": ["msg"]}}, ["msg"]),
        ({"dependentSchemas": {"repo": {"required": ["msg"]}}}, ["msg"]),
        ({"not": {"required": ["url", "repo"]}}, None),
    ],
)
def test_conditions_of_it_are_decided(schema: dict[str, Any], left: list[str] | None) -> None:
    whole = tool(properties={"repo": TEXT, "msg": TEXT, "url": TEXT}, **schema)
    shown = hide_arguments(whole, PIN)
    assert shown.parameters.get("required") == left
    check_the_same_fits(whole, shown)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"repo": NUMBER}},
        {"anyOf": [{"properties": {"repo": NUMBER}}, {"properties": {"repo": {"enum": ["/etc"]}}}]},
        {"allOf": [COMMIT, {"properties": {"repo": {"minLength": 20}}}]},
        {"not": {"required": ["repo"]}, "properties": {"repo": TEXT}},
        {"oneOf": [{"required": ["repo"]}, {"properties": {"repo": TEXT}}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"repo": NUMBER}}}},
    ],
)
def test_a_value_that_fits_no_call_is_refused_by_name(schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="leave no call(?s:.*)s/t(?s:.*)repo"):
        hide_arguments(tool(**schema), PIN)


def test_the_other_of_two_is_not_shown() -> None:
    whole = tool(properties={"repo": TEXT, "url": TEXT}, oneOf=[{"required": ["repo"]}, {"required": ["url"]}])
    assert hide_arguments(whole, PIN).parameters == {"type": "object", "properties": {}}
    assert not fits({**PIN, "url": "u"}, whole)


def test_forbidden_arguments_close_the_ways_that_need_them() -> None:
    whole = tool(properties={"path": TEXT, "url": TEXT}, anyOf=[{"required": ["path"]}, {"required": ["url"]}])
    shown = hide_arguments(whole, {}, {"path"})
    assert fits({"url": "u"}, shown) and not fits({}, shown) and "path" not in json.dumps(shown.parameters)
    with pytest.raises(UsageError, match="leave no call"):
        hide_arguments(tool(**COMMIT), {}, {"repo"})


def test_arguments_of_the_same_name_deeper_down_are_left() -> None:
    inner = {"type": "object", "properties": {"repo": TEXT}, "required": ["repo"]}
    shown = hide_arguments(tool(properties={"repo": TEXT, "options": inner}), PIN)
    assert shown.parameters["properties"] == {"options": inner}


def test_a_pin_wins_where_any_name_may_stand() -> None:
    whole = tool(additionalProperties=TEXT)
    assert hide_arguments(whole, PIN) is whole
    assert fill_pinned({"repo": "/etc", "a": "b"}, whole, PIN) == {"repo": "/srv/repo", "a": "b"}
    assert fill_pinned({"a": "b"}, whole, PIN) == {"a": "b"}


def test_a_schema_that_refers_to_itself_is_refused() -> None:
    with pytest.raises(ToolError, match="refers to itself"):
        hide_arguments(tool(**COMMIT, **{"$ref": "#"}), PIN)


def test_a_reference_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ToolError, match="leads nowhere(?s:.*)#/nowhere"):
        hide_arguments(tool(**COMMIT, **{"$ref": "#/nowhere"}), PIN)


def test_references_that_lead_too_far_are_refused() -> None:
    steps = {f"s{n}": {"$ref": f"#/$defs/s{n + 1}"} for n in range(600)}
    with pytest.raises(ToolError, match="nested too deeply"):
        hide_arguments(tool(**{"$ref": "#/$defs/s0", "$defs": {**steps, "s600": COMMIT}}), PIN)
