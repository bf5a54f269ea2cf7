"""Pairs of calls that are easily confused."""

from __future__ import annotations

import random

from dualtune_mlx.synthesis.planning import find_confusable, plan_contrasts
from dualtune_mlx.tools import Tool
from tests.synthesis.planning.test_calls import check_plan, new_tool

TEXT = {"type": "string"}


def new_described(name: str, description: str, **properties: object) -> Tool:
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return Tool(name, description, schema, "server")


BEFORE = new_described("add_note_before", "Add a note before a text.", search_text=TEXT, note=TEXT)
AFTER = new_described(
    "add_note_after", "Add a note after a text.", search_text=TEXT, note=TEXT, page={"type": "integer"}
)
WEATHER = new_described("get_weather", "The weather of a town.", city=TEXT)


def test_close_tools_are_found() -> None:
    assert find_confusable([BEFORE, WEATHER, AFTER]) == [(BEFORE, AFTER)]
    assert find_confusable([]) == []


def test_calls_of_close_tools_share_values_and_words() -> None:
    pairs = list(plan_contrasts([BEFORE, WEATHER, AFTER], 6, random.Random(1)))
    assert len(pairs) == 6
    for first, second in pairs:
        check_plan(first)
        check_plan(second)
        assert (first.tool, second.tool) == (BEFORE, AFTER)
        assert {"search_text", "note"} <= {one.path for one in first.said if one in second.said}


def test_calls_of_one_tool_differ_in_one_thing() -> None:
    tool = new_tool(
        order={"enum": ["asc", "desc"], "type": "string"},
        loud={"type": "boolean"},
        head={"type": "integer"},
        tail={"type": "integer"},
    )
    kinds = set()
    for first, second in plan_contrasts([tool], 40, random.Random(1)):
        check_plan(second)
        assert first.tool is second.tool is tool
        changed = {*first.arguments.items()} ^ {*second.arguments.items()}
        assert len(changed) == 2
        kinds |= {frozenset(name for name, _ in changed)}
    assert kinds == {frozenset(("order",)), frozenset(("loud",)), frozenset(("head", "tail"))}


def test_without_anything_to_confuse_there_are_no_pairs() -> None:
    assert list(plan_contrasts([WEATHER], 5, random.Random(1))) == []
