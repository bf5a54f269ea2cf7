"""Requests for calculations."""

import random

import pytest

from dualtune_mlx.synthesis.phrasing import word_call
from dualtune_mlx.synthesis.phrasing.tables import read_table
from dualtune_mlx.synthesis.planned_calls import PlannedCall, SaidValue
from dualtune_mlx.tools import Tool

FORMS = ("say", "ask", "need", "note")


def _plan(name: str, **numbers: float) -> PlannedCall:
    properties = {key: {"type": "number"} for key in numbers}
    said = tuple(SaidValue(key, value, str(value), "verbatim") for key, value in numbers.items())
    return PlannedCall(Tool(name, "", {"type": "object", "properties": properties}), numbers, said)


def test_a_calculation_is_asked_for_as_people_do() -> None:
    texts = {word_call(_plan("multiply", a=12, b=7), "question", random.Random(seed)).text for seed in range(200)}
    assert "What's 12 times 7?" in texts
    assert "How many are 12 boxes of 7?" in texts


def test_the_numbers_keep_their_places() -> None:
    texts = [word_call(_plan("subtract", a=90, b=17), "terse", random.Random(seed)).text for seed in range(100)]
    assert any("90 - 17" in text for text in texts)
    assert not any("17 - 90" in text for text in texts)


def test_a_tool_with_other_arguments_is_none() -> None:
    tool = Tool("add_row", "Add a row.", {"type": "object", "properties": {"row": {"type": "integer"}}})
    planned = PlannedCall(tool, {"row": 3}, (SaidValue("row", 3, "3", "verbatim"),))
    families = {word_call(planned, "imperative", random.Random(seed)).family.split(":")[0] for seed in range(100)}
    assert "calculation" not in families


@pytest.mark.parametrize("operation", read_table("maths"))
def test_every_calculation_has_all_forms(operation: str) -> None:
    assert all(read_table("maths")[operation][form] for form in FORMS)
