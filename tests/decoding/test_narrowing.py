"""Which optional arguments the words of a request leave to the model."""

from __future__ import annotations

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.decoding import WordReading, narrow
from dualtune_mlx.decoding.forms import find_form, spans_of_form
from dualtune_mlx.tools import Message
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
    narrowed = narrow(ADD, reading(due=3.0, tag=-3.0, color=0.1), ())
    assert narrowed.parameters["required"] == ["text", "due"]
    assert narrowed.parameters["properties"]["tag"] is False
    assert narrowed.parameters["properties"]["color"] == {"type": "string"}
    assert ADD.parameters == SCHEMA, "the tool itself stays"
    check_arguments({"text": "a", "due": "b"}, narrowed)


def test_a_required_argument_stays_whatever_the_words_say():
    assert narrow(ADD, reading(text=-9.0, due=-0.1), ()) == ADD


def test_of_another_tool_s_reading_nothing_counts():
    assert narrow(ADD, WordReading({("other/add", "due"): 9.0, ("notes/add", "gone"): 9.0}), ()) == ADD


def test_a_tool_without_required_arguments_gets_some():
    free = Tool("add", "", {"type": "object", "properties": {"due": {}}}, "notes")
    assert narrow(free, reading(due=5.0), ()).parameters["required"] == ["due"]


@pytest.mark.parametrize("tie", ["anyOf", "oneOf", "allOf", "minProperties", "dependentRequired", "if"])
def test_arguments_that_are_tied_to_each_other_all_stay(tie):
    tied = Tool("add", "", {**SCHEMA, tie: 1 if tie == "minProperties" else {}}, "notes")
    assert narrow(tied, reading(due=5.0, tag=-5.0), ()) == tied


def test_a_schema_without_properties_stays():
    plain = Tool("add", "", {"type": "object"}, "notes")
    assert narrow(plain, reading(due=5.0), ()) == plain


SAID = (Message("user", "Move the report to q3/report.docx, Anna says https://a.b/c?d=1 is where it was, or a@b.org"),)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["a.txt", "b/c.py"], "file"),
        (["a.txt", "notes/b"], ""),
        (["notes/b", "/tmp/c"], "path"),
        (["https://a.b", "ftp://c"], "address"),
        (["a@b.org"], "mail"),
        (["12", "3,5", "2024-05-06"], "number"),
        (["a.txt"] * 9 + ["Makefile"], "file"),
        (["a.txt"] * 8 + ["Makefile"] * 2, ""),
        (["one", "two words"], ""),
        ([], ""),
    ],
)
def test_the_form_is_the_narrowest_that_nearly_all_values_have(values, form):
    assert find_form(values) == form


def test_spans_of_a_form_are_whole_words():
    assert spans_of_form("file", SAID) == ["q3/report.docx"]
    assert spans_of_form("address", SAID) == ["https://a.b/c?d=1"]
    assert spans_of_form("number", SAID) == []


def test_an_argument_whose_values_have_a_form_is_held_to_what_has_it():
    formed = WordReading({}, {"notes/add": {"text": "file", "due": "number", "gone": "file"}})
    narrowed = narrow(ADD, formed, SAID).parameters["properties"]
    assert narrowed["text"] == {"type": "string", "enum": ["q3/report.docx"]}
    assert narrowed["due"] == {"type": "string"}, "nothing has the form, so all may be meant"
    listed = Tool("add", "", {"type": "object", "properties": {"text": {"enum": ["a"]}}}, "notes")
    assert narrow(listed, formed, SAID) == listed
