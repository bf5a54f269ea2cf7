"""Grounding ``strict``: no free string that nobody said goes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dualtune_mlx import DualTune, Tool
from dualtune_mlx.decoding import Decoding, find_unsaid, grounding
from dualtune_mlx.decoding.spans import find_spans
from dualtune_mlx.engine import attempts
from dualtune_mlx.engine.events import ArgumentText, StageBegins
from dualtune_mlx.errors import DecodingError
from dualtune_mlx.tools import as_messages
from tests import tiny
from tests.engine.engines import make_calling_engine

REQUEST = 'Replace "größe 1" in notes/a.txt, please'
SPANS = set(find_spans(as_messages(REQUEST)))
STRING, SHORT = {"type": "string"}, {"type": "string", "maxLength": 6}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}


def tool(*required: str, **properties: Any) -> Tool:
    definitions = {"Name": {"type": "object", "properties": {"name": SHORT}, "required": ["name"]}}
    return Tool("t", "", {"properties": properties, "required": list(required), "$defs": definitions}, "s")


def engine(seed: int = 0, **options: Any) -> DualTune:
    base = tiny.model(seed)
    return DualTune(base, tiny.renderer(base), decoding=Decoding(grounding="strict", max_tokens=400), **options)


@pytest.fixture(params=["likely", "hardly"])
def copies(request, monkeypatch):
    """Whether the model would copy, or would hardly."""
    monkeypatch.setattr(attempts, "HARDLY", {"likely": -1.0, "hardly": 1.0}[request.param])
    return request.param


HELD = {
    "path": STRING,
    "edits": {
        "type": "array",
        "items": {"type": "object", "properties": {"old": STRING}},
        "maxItems": 2,
        "minItems": 1,
    },
}


@pytest.mark.parametrize("seed", range(4))
def test_every_free_string_is_copied_or_left_out(copies, seed):
    asked = tool("n", n=DIGIT, zone={"anyOf": [STRING, {"type": "null"}]}, **HELD)
    arguments = engine(seed).arguments(REQUEST, asked)
    assert find_unsaid(arguments, asked, as_messages(REQUEST)) == ()
    if copies == "hardly":
        assert all(arguments.get(name) is None for name in ("path", "zone"))
        assert not any(edit.get("old") for edit in arguments.get("edits", ()))


def test_what_the_tool_needs_is_copied_or_an_error_that_names_it(copies):
    asked = tool("edits", **HELD)
    asked.parameters["properties"]["edits"]["items"]["required"] = ["old"]
    if copies == "likely":
        assert {edit["old"] for edit in engine().arguments(REQUEST, asked)["edits"]} <= SPANS
    else:
        with pytest.raises(DecodingError, match="does not give(?s:.*)'t': edits\\[\\].old(?s:.*)grounding data"):
            engine().arguments(REQUEST, asked)


@pytest.mark.parametrize("free", [SHORT, {"$ref": "#/$defs/Name"}, {"anyOf": [SHORT, {"type": "boolean"}]}])
def test_a_string_that_cannot_be_held_is_looked_at_afterwards(free):
    arguments = engine(2).arguments(REQUEST, tool("n", n=DIGIT, a=free, b=free))
    assert find_unsaid(arguments, tool(a=free, b=free), as_messages(REQUEST)) == ()
    with pytest.raises(DecodingError, match="'t': a"):
        engine(2).arguments(REQUEST, tool("a", a=SHORT))


def test_what_is_optional_in_one_form_and_needed_in_another_does_not_go_out():
    forms = [{"type": "object", "properties": {"a": SHORT}, "required": required} for required in ([], ["a"])]
    either = tool("x", x={"anyOf": [forms[1], {**forms[0], "properties": {"a": SHORT, "b": {"type": "null"}}}]})
    for seed in range(4):
        try:
            assert find_unsaid(engine(seed).arguments(REQUEST, either), either, as_messages(REQUEST)) == ()
        except DecodingError as error:
            assert "x.a" in str(error)


@pytest.mark.parametrize("request_text", [REQUEST, "?"])
def test_a_conversation_of_too_many_spans_or_none_gives_only_what_is_copied(monkeypatch, request_text):
    monkeypatch.setattr(grounding, "MAX_CHARACTERS", 10)
    asked = tool("n", n=DIGIT, path=SHORT)
    assert find_unsaid(engine(1).arguments(request_text, asked), asked, as_messages(request_text)) == ()


def test_forms_and_listed_values_are_written_as_ever(copies):
    formed = tool("day", "mode", day={"type": "string", "format": "date"}, mode={"enum": ["soft", "loud"]})
    strict = engine().arguments(REQUEST, formed)
    assert strict == engine().arguments(REQUEST, formed, grounding="off")
    assert find_unsaid(strict, formed, as_messages(REQUEST)) == ("day",)
    del copies


@pytest.mark.parametrize("hardly", [-1.0, 1.0])
def test_together_and_streamed_it_is_the_same(monkeypatch, hardly):
    monkeypatch.setattr(attempts, "HARDLY", hardly)
    asked = [tool("n", n=DIGIT, **HELD)]
    options = {"grounding": "strict", "max_tokens": 400}
    dualtune = make_calling_engine(asked)
    call = dualtune.call(REQUEST, asked, **options)
    assert [one.arguments for one in dualtune.call_many([REQUEST, REQUEST], asked, **options)] == [call.arguments] * 2
    events = list(dualtune.stream(REQUEST, asked, **options))
    begun = [number for number, event in enumerate(events) if isinstance(event, StageBegins)]
    text = "".join(event.text for event in events[begun[-1] :] if isinstance(event, ArgumentText))
    assert json.loads(text) == call.arguments
    assert call.usage.stages["arguments"].reused_tokens >= call.usage.stages["selector"].prefilled_tokens


def test_a_plan_is_written_as_ever():
    dualtune = engine(grounding={"/plan": {"parts[]": ()}})
    strict, plain = (
        list(dualtune.planning(REQUEST, max_tokens=200, grounding=kind))[-1].subtasks for kind in ("strict", "data")
    )
    assert strict == plain


def test_a_call_tells_what_nobody_said():
    asked = [tool("day", "word", day={"type": "string", "format": "date"}, word=SHORT)]
    dualtune = make_calling_engine(asked)
    for call in (dualtune.call(REQUEST, asked), *dualtune.call_many([REQUEST], asked)):
        assert call.unsaid == find_unsaid(call.arguments, asked[0], as_messages(REQUEST)) == ("day", "word")
        assert call.to_record()["unsaid"] == ["day", "word"]
