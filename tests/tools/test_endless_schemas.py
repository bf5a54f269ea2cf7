"""A server's schema may ask for a check without an end; the check has one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import check_compiles
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.listing import Listing
from dualtune_mlx.tools import patterns, schemas
from dualtune_mlx.tools.patterns import compile_pattern, find_pattern
from dualtune_mlx.tools.schemas import Validator, check_arguments, read_schema

SCHEMA = "https://json-schema.org/draft/2020-12/schema"
SLOW, LONG = "^(a|aa)+$", "a" * 60 + "!"


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "LONGEST_CHECK", 0.1)
    monkeypatch.setattr(patterns, "LONGEST_SEARCH", 0.1)


def refused(arguments: Any, schema: Any, match: str) -> None:
    began = time.thread_time()
    with pytest.raises(ToolError, match=f"{match}(?s:.*)(fix|expected): "):
        check_arguments(arguments, Tool("t", "", schema, "s"))
    assert time.thread_time() - began < 2


def properties(**listed: Any) -> dict[str, Any]:
    return {"type": "object", "properties": listed}


@pytest.mark.parametrize(
    "schema",
    [
        properties(v={"enum": [LONG], "anyOf": [{"pattern": SLOW}, {}]}),
        properties(v={"pattern": "^((a{0,30}){0,30}){0,30}$"}),
        properties(v={"pattern": "^(a{1,1000}){1,1000}$"}),
        properties(v={"pattern": "(?R)"}),
        properties(v={"not": {"$schema": SCHEMA, "pattern": SLOW}}),
        properties(v={"$schema": SCHEMA, "pattern": SLOW}),
        properties(v={"properties": {}, "if": {"$schema": SCHEMA, "pattern": SLOW}, "then": {}}),
        {"type": "object", "$schema": "http://json-schema.org/draft-04/schema#", **properties(v={"pattern": SLOW})},
    ],
)
def test_a_search_without_an_end_is_ended(schema):
    refused({"v": LONG}, schema, "a pattern cannot be read(?s:.*)a search without an end")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {SLOW: {}}},
        {"type": "object", "additionalProperties": False, "patternProperties": {SLOW: {}}},
        {"type": "object", "propertyNames": {"pattern": SLOW}},
    ],
)
def test_names_are_matched_within_the_time(schema):
    refused({LONG: 1}, schema, "a search without an end")


def test_properties_named_like_keywords_keep_their_schemas_and_data_is_left_alone():
    named = properties(default={"$schema": SCHEMA, "pattern": SLOW})
    refused({"default": LONG}, named, "a search without an end")
    value = {"$schema": SCHEMA}
    check_arguments({"v": value}, Tool("t", "", properties(v={"const": value})))
    check_arguments(value, Tool("t", "", {**properties(**{"$schema": {"type": "string"}}), "required": ["$schema"]}))


def test_patterns_beside_unevaluated_properties_are_not_left_to_python():
    schema = {"type": "object", "patternProperties": {SLOW: {}}, "unevaluatedProperties": False}
    refused({LONG: 1}, schema, "cannot be checked(?s:.*)unevaluatedProperties")
    refused({"v": 1}, {**schema, "patternProperties": {r"^\p{L}$": {}}}, "cannot be checked")


def doubled(keyword: str) -> dict[str, Any]:
    """28 definitions, each of which applies the next one twice."""

    def twice(number: int) -> dict[str, Any]:
        one = {"$ref": f"#/$defs/d{number + 1}"}
        if keyword in ("allOf", "anyOf", "oneOf"):
            return {keyword: [one, one]}
        if keyword in ("dependentSchemas", "patternProperties"):
            return {keyword: {"a": one, "b": one}}
        if keyword == "if":
            return {"if": one, "then": one}
        if keyword == "$dynamicRef":
            return {**one, "$dynamicRef": one["$ref"]}
        return {"allOf": [{keyword: one}, {keyword: one}]}

    return {f"d{number}": twice(number) for number in range(28)} | {"d28": {"type": "integer"}}


def deep(of: Any) -> Any:
    value: Any = 1
    for _ in range(28):
        value = of(value)
    return value


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *((keyword, "a") for keyword in ("allOf", "anyOf", "oneOf", "not", "$dynamicRef")),
        ("if", 1),
        ("dependentSchemas", {"a": 1, "b": 1}),
        ("items", deep(lambda inner: [inner])),
        ("additionalProperties", deep(lambda inner: {"a": inner})),
        ("patternProperties", deep(lambda inner: {"ab": inner})),
    ],
)
def test_references_that_multiply_come_to_an_end(keyword, value):
    schema = {**properties(v={"$ref": "#/$defs/d0"}), "$defs": doubled(keyword)}
    refused({"v": value}, schema, "cannot be checked to its end(?s:.*)computing")


@pytest.mark.parametrize("keyword", ["$dynamicRef", "dependentSchemas"])
def test_what_was_evaluated_is_found_within_the_time(keyword):
    definitions = doubled(keyword)
    whole = {"type": "object", "unevaluatedProperties": False, **definitions["d0"], "$defs": definitions}
    refused({"a": 1, "b": 1}, whole, "cannot be checked to its end")
    items = {**properties(v={"unevaluatedItems": False, **definitions["d0"]}), "$defs": definitions}
    refused({"v": [1]}, items, "cannot be checked to its end|do not fit")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "$dynamicRef": "#"},
        {
            "type": "object",
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "$recursiveAnchor": True,
            "allOf": [{"$recursiveRef": "#"}],
        },
        {"type": "object", "allOf": [{"$ref": "#"}, {"$ref": "#"}]},
    ],
)
def test_what_leads_to_itself_is_an_error_and_no_panic(schema):
    refused({"v": 1}, schema, "cannot be checked to its end")


def test_a_value_as_deep_as_real_ones_is_checked():
    tree = {**properties(v={"$ref": "#/$defs/n"}), "$defs": {"n": properties(inner={"anyOf": [{"$ref": "#/$defs/n"}]})}}
    value: Any = {}
    for _ in range(20):
        value = {"inner": value}
    check_arguments({"v": value}, Tool("t", "", tree))


def test_a_list_of_many_objects_is_unique_in_no_time():
    schema = properties(v={"uniqueItems": True})
    check_arguments({"v": [{"a": number} for number in range(8_000)]}, Tool("t", "", schema))
    check_arguments({"v": [1, True, "1", [1], [True], {"a": 1}, {"a": True}]}, Tool("t", "", schema))
    for twice in ([1, 1.0], [{"a": [1]}, {"a": [1.0]}], [[{}], [{}]]):
        refused({"v": twice}, schema, "non-unique")


@pytest.mark.parametrize(
    "pattern", ["(((a{100}){100}){100}){100}", "a{1000000000}", "(?:(?:ab){1000}){1000}", "(?:a{99999}){99999}{9}"]
)
def test_a_pattern_that_is_large_when_it_is_written_out_is_refused(pattern):
    with pytest.raises(ToolError, match="repetitions written out"):
        compile_pattern(pattern)
    with pytest.raises(ToolError, match="cannot be enforced"):
        check_compiles(Tool("t", "", properties(v={"type": "string", "pattern": pattern})))


@pytest.mark.parametrize("pattern", [r"\u{110000}", r"[\u{FFFFFF}]", "(?V0)a", "(" * 5_000 + ")" * 5_000])
def test_what_regex_cannot_compile_is_an_error_of_ours(pattern):
    with pytest.raises(ToolError, match="a pattern cannot be read"):
        compile_pattern(pattern)


def test_repetitions_of_measure_are_compiled():
    assert find_pattern("^[ab]{0,1000000}$", "ab")
    assert find_pattern(r"^\(a\){2}[(]{3}b$", "(a))(((b")


BROKEN = [
    ({"minimum": 10**5_000}, "digits"),
    ({"enum": [10**5_000]}, "digits"),
    ({"const": "\ud800"}, "surrogates"),
]


@pytest.mark.parametrize(("schema", "says"), BROKEN)
def test_a_schema_that_is_no_json_is_refused(schema, says):
    with pytest.raises(ToolError, match=f"cannot be read(?s:.*){says}"):
        read_schema(properties(v=schema), "s/t")


def test_a_schema_of_many_levels_is_refused():
    schema: Any = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(ToolError, match="cannot be read"):
        read_schema(properties(v=schema), "s/t")
    refused({"v": [1]}, properties(v=schema), "cannot be written as JSON")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"multipleOf": 0}, 1.5),
        ({"minimum": 10**5_000}, 1.5),
        ({"$ref": 5}, 1.5),
        ({"$ref": "http://[bad"}, 1.5),
        ({"minLength": "a"}, "text"),
        ({"type": 5}, 1.5),
    ],
)
def test_a_schema_that_was_never_read_is_checked_without_a_traceback(schema, value):
    refused({"v": value}, properties(v=schema), "cannot be (checked|written as JSON)|leads nowhere")


@pytest.mark.parametrize(
    "schema",
    [
        {**properties(v={"$ref": "#/allOf/x"}), "allOf": [{}]},
        {**properties(v={}), "$id": "http://[bad"},
        {**properties(v={"$ref": "#/properties/v/default"}), "$id": "http://[bad"},
    ],
)
def test_an_address_that_is_none_is_an_error_of_ours(schema):
    listed = Listing(ServerConfig("s", command="x"))
    assert listed.add({"name": "t", "inputSchema": schema}) is None
    assert isinstance(listed.set_aside["t"], ToolError)


def test_a_part_is_held_to_the_time_too():
    schema = {**properties(), "$defs": doubled("anyOf")}
    with pytest.raises(ToolError, match="cannot be checked to its end"):
        Validator(schema, "s/t").fits("a", {"$ref": "#/$defs/d0"})
