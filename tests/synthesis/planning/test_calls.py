"""Planned calls fit their schemas, can be written, and say their values in words that are found again."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.tool_checks import read_tool
from dualtune_mlx.synthesis.conversions import find_said, list_leaves
from dualtune_mlx.synthesis.planned_calls import PlannedCall
from dualtune_mlx.synthesis.planning import calls, plan_calls, strings
from dualtune_mlx.synthesis.values.sampling import Sampler
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments
from tests.tools.real_servers.packages import PACKAGES
from tests.tools.real_servers.table import find_set_aside, read_list

TODAY = "2026-11-30"


def new_tool(name: str = "do_it", required: tuple[str, ...] = (), **properties: Any) -> Tool:
    return Tool(name, "", {"type": "object", "properties": properties, "required": [*required]}, "server")


def plan(tool: Tool, count: int = 40, **more: Any) -> list[PlannedCall]:
    return list(plan_calls([tool], [count], random.Random(3), today=TODAY, **more))


def check_plan(planned: PlannedCall) -> None:
    check_arguments(planned.arguments, planned.tool)
    assert explain_unwritable(planned.tool, planned.arguments) == ""
    for said, (path, parameter, value) in zip(planned.said, list_leaves(planned.tool, planned.arguments), strict=True):
        assert (said.path, said.value) == (path, value)
        assert find_said(parameter, value, f"well, {said.words} .", planned.today), said
        assert said.words or said.conversion == "unsaid"


def check_server(server: str, count: int) -> None:
    aside = find_set_aside(server)
    tools = [read_tool(one, ServerConfig(server)) for one in read_list(server)["tools"] if one["name"] not in aside]
    planned = list(plan_calls(tools, [count] * len(tools), random.Random(1), today=TODAY))
    assert len(planned) == count * len(tools)
    for one in planned:
        check_plan(one)


@pytest.mark.parametrize("server", ["chart", "slack"])
def test_tools_of_some_servers(server: str) -> None:
    check_server(server, 3)


@pytest.mark.servers
@pytest.mark.parametrize("server", PACKAGES)
def test_tools_of_all_servers(server: str) -> None:
    check_server(server, 5)


def test_the_same_seed_plans_the_same() -> None:
    tool = new_tool(title={"type": "string"}, limit={"type": "integer"})
    assert plan(tool) == plan(tool)


def test_optional_arguments_are_balanced() -> None:
    names = {f"{word}_text": {"type": "string"} for word in ("first", "second", "third", "fourth")}
    planned = plan(new_tool("list_texts", **names), 200)
    counts = Counter(name for one in planned for name in one.arguments)
    assert counts.keys() == names.keys()
    assert max(counts.values()) - min(counts.values()) <= 2
    sizes = Counter(len(one.arguments) for one in planned)
    assert sizes[0] and sizes[1] > sizes[3] > 0
    assert sizes[4] < 20


@pytest.mark.parametrize(("name", "required"), [("update_text", ("first",)), ("create_text", ()), ("find_text", ())])
def test_what_changes_or_looks_for_something_says_what(name: str, required: tuple[str, ...]) -> None:
    text = {"type": "string"}
    planned = plan(new_tool(name, required, first=text, second=text), 60)
    assert all(len(one.arguments) > len(required) for one in planned)


def test_what_nobody_says_by_heart_comes_seldom() -> None:
    tool = new_tool(cursor={"type": "string"}, extra={"type": "object"}, query={"type": "string"})
    counts = Counter(name for one in plan(tool, 300) for name in one.arguments)
    assert 0 < counts["cursor"] + counts["extra"] < counts["query"] / 2


def test_a_default_is_never_said() -> None:
    tool = new_tool(
        required=("order", "loud"),
        order={"enum": ["asc", "desc"], "default": "asc"},
        loud={"type": "boolean", "default": False},
        limit={"type": "integer", "default": 5, "minimum": 5, "maximum": 6},
    )
    for one in plan(tool):
        assert one.arguments["order"] == "desc"
        assert one.arguments["loud"] is True
        assert one.arguments.get("limit") != 5


@pytest.mark.parametrize(
    ("schema", "is_right"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 9, "multipleOf": 3}, lambda v: v in (3, 6, 9)),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, lambda v: 0 < v <= 1),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}, lambda v: len(v) == 2),
        ({"type": "string", "pattern": "^[A-Z]{3}-\\d+$"}, lambda v: v[3] == "-"),
        ({"type": "string", "maxLength": 4}, lambda v: len(v) <= 4),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, lambda v: v[4] == "-"),
        ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, lambda v: isinstance(v, int)),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            lambda v: all(type(x) is int for x in v.values()),
        ),
        ({"type": "string", "format": "uuid"}, lambda v: len(v) == 36),
        ({"type": "string", "description": "one of: open, closed"}, lambda v: v in ("open", "closed")),
        ({"const": 4}, lambda v: v == 4),
    ],
)
def test_values_are_of_the_schema(schema: dict[str, Any], is_right: Any) -> None:
    for one in plan(new_tool(required=("it",), it=schema)):
        assert is_right(one.arguments["it"]), one.arguments


@pytest.mark.parametrize(
    ("name", "sign"),
    [("email", "@"), ("website_url", "https://"), ("startDate", "-"), ("cell_range", ":"), ("fill_color", "#")],
)
def test_names_tell_what_is_said(name: str, sign: str) -> None:
    assert all(sign in one.arguments[name] for one in plan(new_tool(required=(name,), **{name: {"type": "string"}})))


def test_a_servers_files_are_of_its_sort() -> None:
    path = {"type": "string"}
    tool = Tool("read_range", "", {"type": "object", "properties": {"path": path}, "required": ["path"]}, "excel")
    assert all(one.arguments["path"].endswith(".xlsx") for one in plan(tool))


def test_a_range_does_not_end_before_it_starts() -> None:
    tool = new_tool(required=("start_row", "end_row"), start_row={"type": "integer"}, end_row={"type": "integer"})
    assert all(one.arguments["start_row"] <= one.arguments["end_row"] for one in plan(tool))


def test_values_that_servers_hold_are_used() -> None:
    tool = new_tool(required=("owner", "repo"), owner={"type": "string"}, repo={"type": "string"})
    values = {"server/do_it/owner": ["ada"], "repo": ["engine", 5]}
    planned = plan(tool, 100, values=values)
    assert 30 < sum(one.arguments["owner"] == "ada" for one in planned) < 70
    assert 30 < sum(one.arguments["repo"] == "engine" for one in planned) < 70


def test_a_value_of_a_names_last_word_will_do() -> None:
    tool = new_tool(required=("repo_owner", "count"), repo_owner={"type": "string"}, count={"type": "integer"})
    planned = plan(tool, values={"owner": ["ada"], "count": ["many", True]})
    assert any(one.arguments["repo_owner"] == "ada" for one in planned)
    assert all(type(one.arguments["count"]) is int for one in planned)


def test_two_texts_of_a_call_are_not_the_same() -> None:
    tool = new_tool(required=("color", "fill_color"), color={"type": "string"}, fill_color={"type": "string"})
    assert all(one.arguments["color"] != one.arguments["fill_color"] for one in plan(tool))


def test_what_cannot_be_planned_is_said() -> None:
    tool = new_tool(required=("it",), it={"type": "string", "pattern": "^a$", "minLength": 4})
    with pytest.raises(ToolError, match="no arguments were found"):
        plan(tool)


def nested_lists(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "minItems": 2, "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 10**9, "items": {"type": "string"}},
        {"type": "object", "minProperties": 10**9},
        {"type": "string", "minLength": 10**9},
        nested_lists(30),
        {"type": "object", "properties": {"n": {"$ref": "#/properties/v"}}, "required": ["n"]},
    ],
)
def test_a_schema_of_values_without_measure_is_refused(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LONGEST", 0.5)
    with pytest.raises(ToolError, match="no arguments were found"):
        plan(new_tool(required=("v",), v=schema), 1)


@pytest.mark.parametrize("pattern", [r"^\p{L}+$", r"^(a|aa)+$", r"^[^]+$"])
def test_a_pattern_of_ecmascript_s_needs_no_form_of_python_s(pattern: str) -> None:
    (planned,) = plan(new_tool(required=("v",), v={"type": "string", "pattern": pattern}), 1)
    check_plan(planned)


@pytest.mark.parametrize("pattern", [r"^\p{Lu}\cA$", "a{199999}", "["])
def test_where_no_text_of_a_form_is_found_there_is_none(pattern: str) -> None:
    assert strings.draw_pattern(Sampler(random.Random(1), {}), pattern) == ""
