"""Which optional arguments the words of a request leave to the model."""

from __future__ import annotations

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.decoding import WordReading, narrow
from dualtune_mlx.tools.schemas import check_arguments

SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("text", "due", "tag", "color")},
    "required": ["text"],
}
ADD = Tool("add", "Add a note.", SCHEMA, "notes")


def reading(**logits: float) -> WordReading:
    return WordReading({("notes/add", name): logit for name, logit in logits.items()})


def test_what_is_surely_there_is_required_and_what_is_surely_not_is_left_out():
    narrowed = narrow(ADD, reading(due=3.0, tag=-3.0, color=0.1))
    assert narrowed.parameters["required"] == ["text", "due"]
    assert narrowed.parameters["properties"]["tag"] is False
    assert narrowed.parameters["properties"]["color"] == {"type": "string"}
    assert ADD.parameters == SCHEMA, "the tool itself stays"
    check_arguments({"text": "a", "due": "b"}, narrowed)


def test_a_required_argument_stays_whatever_the_words_say():
    assert narrow(ADD, reading(text=-9.0, due=-0.1)) == ADD


def test_of_another_tool_s_reading_nothing_counts():
    assert narrow(ADD, WordReading({("other/add", "due"): 9.0, ("notes/add", "gone"): 9.0})) == ADD


def test_a_tool_without_required_arguments_gets_some():
    free = Tool("add", "", {"type": "object", "properties": {"due": {}}}, "notes")
    assert narrow(free, reading(due=5.0)).parameters["required"] == ["due"]


@pytest.mark.parametrize("tie", ["anyOf", "oneOf", "allOf", "minProperties", "dependentRequired", "if"])
def test_arguments_that_are_tied_to_each_other_all_stay(tie):
    tied = Tool("add", "", {**SCHEMA, tie: 1 if tie == "minProperties" else {}}, "notes")
    assert narrow(tied, reading(due=5.0, tag=-5.0)) == tied


def test_a_schema_without_properties_stays():
    plain = Tool("add", "", {"type": "object"}, "notes")
    assert narrow(plain, reading(due=5.0)) == plain
