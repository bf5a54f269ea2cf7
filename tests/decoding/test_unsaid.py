"""Arguments that nobody said, and optional parameters that are left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dualtune_mlx import Tool, ToolCall
from dualtune_mlx.decoding import ArgumentGrammar, GrammarTokenizer, find_unsaid, leave_out
from dualtune_mlx.tools import Message, as_messages
from tests import tiny

STRING = {"type": "string"}
DATE = {"type": "string", "format": "date"}
SCHEMA = {
    "properties": {
        "text": STRING,
        "due": {"anyOf": [DATE, {"type": "null"}]},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
        "mode": {"type": "string", "enum": ["soft", "loud"]},
        "kind": {"const": "bell"},
        "either": {"anyOf": [{"enum": ["listed"]}, STRING]},
        "tags": {"type": "array", "items": STRING},
        "who": {"$ref": "#/$defs/who"},
        "any": {},
    },
    "required": ["text"],
    "$defs": {"who": {"type": "object", "properties": {"name": STRING}, "required": ["name"]}},
}
TOOL = Tool("remind", "", SCHEMA)
SAID = (Message("system", "secret"), *as_messages("Ring the bell, Ana. 2026-11-30 it is"))


@pytest.mark.parametrize(
    ("arguments", "unsaid", "free"),
    [
        ({"text": "the bell"}, (), ()),
        ({"text": "The bell"}, ("text",), ("text",)),
        ({"text": "secret"}, ("text",), ("text",)),
        ({"text": "the bell", "due": "2026-11-30"}, (), ()),
        ({"text": "the bell", "due": "1234-12-30", "code": "X"}, ("due", "code"), ()),
        ({"text": "the bell", "due": None, "mode": "loud", "kind": "bell"}, (), ()),
        ({"text": "Ana", "either": "listed"}, (), ()),
        ({"text": "Ana", "either": "other"}, ("either",), ("either",)),
        ({"text": "Ana", "tags": ["bell", "rope", "boat"]}, ("tags[]",), ("tags[]",)),
        ({"text": "Ana", "who": {"name": "Bo"}}, ("who.name",), ("who.name",)),
        ({"text": "Ana", "any": {"deep": "Bo"}, "more": "no"}, ("any.deep", "more"), ("any.deep", "more")),
    ],
)
def test_strings_that_stand_nowhere_are_found(arguments, unsaid, free):
    assert find_unsaid(arguments, TOOL, SAID) == unsaid
    assert find_unsaid(arguments, TOOL, SAID, formed=False) == free


def test_results_and_earlier_arguments_are_said():
    history = (
        *as_messages("go"),
        Message("assistant", "", (ToolCall("t", {"a": "deep"}),)),
        Message("tool", "found.txt"),
    )
    assert find_unsaid({"text": "found.txt", "any": "deep"}, TOOL, history) == ()


@pytest.fixture(scope="module")
def tokenizer() -> GrammarTokenizer:
    return GrammarTokenizer(tiny.tokenizer())


def allows(tool: Tool, tokenizer: GrammarTokenizer, arguments: dict[str, Any]) -> bool:
    tokens = tiny.tokenizer().encode(json.dumps(arguments), add_special_tokens=False)
    return len(ArgumentGrammar(tool, tokenizer).valid_prefix(tokens)) == len(tokens)


EDIT = {"type": "object", "properties": {"old": STRING, "note": STRING}, "required": ["old"]}
EDITS = {"properties": {"edits": {"type": "array", "items": EDIT}, "more": STRING}, "required": ["edits"]}


def test_what_is_left_out_cannot_be_written_and_the_rest_can(tokenizer):
    open_to_more = {**EDITS, "additionalProperties": True}
    for schema in (EDITS, open_to_more):
        less = leave_out(Tool("t", "", schema), {"edits[].note", "more"})
        assert allows(less, tokenizer, {"edits": [{"old": "a"}]})
        assert not allows(less, tokenizer, {"edits": [{"old": "a", "note": "b"}]})
        assert not allows(less, tokenizer, {"edits": [], "more": "b"})


def test_what_is_required_or_not_there_stays():
    tool = Tool("t", "", EDITS)
    assert leave_out(tool, {"edits", "edits[].old", "none", "edits[]"}) is tool


def test_what_refers_to_it_is_not_left_out_with_it(tokenizer):
    schema = {"properties": {"a": STRING, "b": {"$ref": "#/properties/a"}}, "required": ["b"]}
    less = leave_out(Tool("t", "", schema), {"a"})
    assert allows(less, tokenizer, {"b": "x"})
    assert not allows(less, tokenizer, {"a": "x", "b": "x"})
