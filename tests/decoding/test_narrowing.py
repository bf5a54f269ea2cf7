"""Which optional arguments the words of a request leave to the model."""

from __future__ import annotations

from math import exp

import pytest

from dualtune_mlx import Tool
from dualtune_mlx.decoding import WordReading, narrow
from dualtune_mlx.decoding.forms import find_form, spans_of_form
from dualtune_mlx.decoding.narrowing import OWN_WORDS, THERE
from dualtune_mlx.decoding.said import USUAL, said_logit
from dualtune_mlx.tools import Message
from dualtune_mlx.tools.schemas import check_arguments

SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("text", "due", "tag", "color")},
    "required": ["text"],
}
ADD = Tool("add", "Add a note.", SCHEMA, "notes")
SAY = "put something there"
"""Says nothing of any argument."""


def reading(**logits: float) -> WordReading:
    return WordReading({("notes/add",): 0.0, **{("notes/add", name): logit for name, logit in logits.items()}})


def test_what_is_surely_there_is_required_and_what_is_surely_not_is_left_out():
    narrowed = narrow(ADD, SAY, reading(due=3.0, tag=-3.0, color=0.9), ())
    assert narrowed.parameters["required"] == ["text", "due"]
    assert narrowed.parameters["properties"]["tag"] is False
    assert narrowed.parameters["properties"]["color"] == {"type": "string"}
    assert ADD.parameters == SCHEMA, "the tool itself stays"
    check_arguments({"text": "a", "due": "b"}, narrowed)


def test_a_required_argument_stays_whatever_the_words_say():
    assert narrow(ADD, SAY, reading(text=-9.0, due=0.9), ()) == ADD


def test_of_another_tool_s_reading_nothing_counts():
    others = WordReading({("notes/add",): 0.0, ("other/add", "due"): 9.0, ("notes/add", "gone"): 9.0})
    assert narrow(ADD, SAY, others, ()) == ADD


def test_a_tool_without_required_arguments_gets_some():
    free = Tool("add", "", {"type": "object", "properties": {"due": {}}}, "notes")
    assert narrow(free, SAY, reading(due=5.0), ()).parameters["required"] == ["due"]


@pytest.mark.parametrize("tie", ["anyOf", "oneOf", "allOf", "minProperties", "dependentRequired", "if"])
def test_arguments_that_are_tied_to_each_other_all_stay(tie):
    tied = Tool("add", "", {**SCHEMA, tie: 1 if tie == "minProperties" else {}}, "notes")
    assert narrow(tied, SAY, reading(due=5.0, tag=-5.0), ()) == tied


def test_a_schema_without_properties_stays():
    plain = Tool("add", "", {"type": "object"}, "notes")
    assert narrow(plain, SAY, reading(due=5.0), ()) == plain


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
    formed = WordReading({("notes/add",): 0.0}, {"notes/add": {"text": "file", "due": "number", "gone": "file"}})
    narrowed = narrow(ADD, SAY, formed, SAID).parameters["properties"]
    assert narrowed["text"] == {"type": "string", "enum": ["q3/report.docx"]}
    assert narrowed["due"] == {"type": "string"}, "nothing has the form, so all may be meant"
    listed = Tool("add", "", {"type": "object", "properties": {"text": {"enum": ["a"]}}}, "notes")
    assert narrow(listed, SAY, formed, SAID) == listed


LIST = Tool(
    "list_invoices",
    "List invoices.",
    {
        "type": "object",
        "properties": {
            "customer": {"type": "string", "description": "Whose invoices."},
            "status": {"enum": ["paid", "overdue"]},
            "limit": {"type": "integer", "description": "How many at most."},
            "include_drafts": {"type": "boolean"},
        },
    },
)


@pytest.mark.parametrize(
    ("request_", "there"),
    [
        ("Show the invoices that are overdue", {"status"}),
        ("Show the invoices of the customer Vogel", {"customer"}),
        ("Show the invoices, at most 5 of them", {"limit"}),
        ("Show the invoices, include drafts", {"include_drafts"}),
        ("Show the invoices", set()),
    ],
)
def test_of_a_tool_that_nothing_was_learned_of_the_argument_s_own_words_decide(request_, there):
    logits = {name: said_logit(request_, LIST, name) for name in LIST.parameters["properties"]}
    likely = sorted(logits, key=lambda name: -logits[name])
    assert set(likely[: len(there)]) == there
    narrowed = narrow(LIST, request_, WordReading(), ()).parameters
    assert set(narrowed.get("required", ())) <= there
    assert {name for name, schema in narrowed["properties"].items() if schema is not False} >= there


def test_what_was_learned_and_the_argument_s_own_words_are_added():
    learned = reading(due=0.0)
    share = 1 / (1 + exp(-OWN_WORDS * (said_logit("due on Monday", ADD, "due") - USUAL)))
    assert share > THERE
    assert narrow(ADD, "due on Monday", learned, ()).parameters["required"] == ["text", "due"]
    assert narrow(ADD, "tidy up", learned, ()).parameters["required"] == ["text"]
