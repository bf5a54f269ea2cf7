"""Arguments that could never be written are refused before training, with the lines and what to do."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from dualtune_mlx.errors import DataError, PromptError, ToolError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training import writable
from dualtune_mlx.training.examples import check_arguments_writable, stage_examples
from tests import tiny


def tool(schema: dict[str, Any], **more: Any) -> Tool:
    return Tool("plan", "", {"type": "object", "properties": {"x": schema}, **more}, "calendar")


def trajectory(tool: Tool, name: str, **arguments: Any) -> Trajectory:
    call = ToolCall(tool.name, arguments, tool.server)
    return Trajectory((Message("user", "plan it"), Message("assistant", "", (call,))), (tool,), name)


MOMENT, TIME, LINK = ({"type": "string", "format": kind} for kind in ("date-time", "time", "uri"))
OPEN = {"type": "object"}


@pytest.mark.parametrize(
    ("called", "wrong", "right", "place"),
    [
        (tool(MOMENT), {"x": "2026-05-06T12:30:00"}, {"x": "2026-05-06T12:30:00Z"}, "$.x: after '\"2026-05"),
        (tool(TIME), {"x": "10:00"}, {"x": "10:00:00Z"}, "$.x: after"),
        (tool(LINK), {"x": "example.com"}, {"x": "https://example.com"}, "$.x: after"),
        (tool({"type": "string"}), {"x": "a", "y": 1}, {"x": "a"}, "$.y: after"),
        (Tool("plan", "", OPEN, "calendar"), {"y": 1}, {}, "$: the tool takes no arguments"),
        (tool({"type": "array", "items": MOMENT}), {"x": ["2026-05-06"]}, {"x": []}, "$.x[0]: after"),
    ],
)
def test_what_decoding_cannot_write_is_refused_with_its_line_place_and_way_out(called, wrong, right, place):
    good, bad = trajectory(called, "data/train.jsonl:1", **right), trajectory(called, "data/train.jsonl:2", **wrong)
    check_arguments_writable([good])
    with pytest.raises(DataError, match="could never write") as caught:
        check_arguments_writable([good, bad])
    assert f"calendar/plan at {place}" in caught.value.got
    assert "(data/train.jsonl:2)" in caught.value.got
    assert caught.value.got.startswith("1 of 2 calls")
    assert caught.value.where == "data/train.jsonl:2, decision 1"
    assert '"weight": 0' in str(caught.value.fix)
    unlearned = replace(bad, messages=(bad.messages[0], replace(bad.messages[1], weight=0)))
    check_arguments_writable([good, unlearned])


def test_calls_of_a_kind_are_told_together(monkeypatch):
    moments, texts = tool({"type": "array", "items": MOMENT}), tool({"type": "string"})
    monkeypatch.setattr(writable, "MOST_PLACES", 6)
    several = [
        trajectory(moments, f"{'f' if i < 4 else 'g'}:{i}", x=["2026-05-06T12:30:00Z"] * i + ["12:30"])
        for i in range(9)
    ]
    with pytest.raises(DataError) as caught:
        check_arguments_writable([*several, *(trajectory(texts, f"f:{i}", **{f"key{i}": 1}) for i in range(10, 16))])
    count, first, *others = caught.value.got.split("\n    ")
    assert first.startswith("calendar/plan at $.x[0]: ")
    assert first.endswith(" (f:0, 1, 2, 3; g:4, 5 and 3 more)")
    assert (count, len(others), others[-1]) == ("15 of 15 calls", 4, "and 3 more kinds")


def test_a_schema_that_cannot_be_enforced_is_refused_with_a_line_that_calls_it():
    called = tool({"type": "string", "not": {"const": "a"}})
    with pytest.raises(ToolError, match=r"cannot be enforced(?s:.*)f:7, decision 1, tool 'plan'(?s:.*)fix: "):
        check_arguments_writable([trajectory(called, "f:7", x="b")])


def test_only_the_calls_that_are_learned_are_tried():
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer(), "name")
    bad, good = trajectory(tool(MOMENT), "f:1", x="12:30"), trajectory(tool(MOMENT), "f:2", x="2026-05-06T12:30:00Z")
    other = replace(good, tools=(replace(good.tools[0], server="mail"),))
    other = replace(other, messages=(good.messages[0], Message("assistant", "", (ToolCall("plan", {}, "mail"),))))
    assert stage_examples([bad, good], renderer, "selector", "turn").examples
    assert stage_examples([bad, other], renderer, "arguments", "turn", scope="mail").examples
    for scope in ("", "calendar"):
        with pytest.raises(DataError, match="could never write"):
            stage_examples([bad, good], renderer, "arguments", "turn", scope=scope)


def test_trying_is_cheap():
    called = tool({"type": "string"})
    many = [trajectory(called, "", x=f"value {i}") for i in range(1000)]
    check_arguments_writable(many[:1])  # compiles the grammar
    start = time.process_time()
    check_arguments_writable(many)
    assert time.process_time() - start < 2  # 0.2 s on two slow cores


def test_what_cannot_be_rendered_is_refused_with_its_line():
    renderer = PromptRenderer(Template("chatml"), tiny.tokenizer(), "name")
    free = trajectory(tool(OPEN), "f:3")
    free = replace(free, tools=(*free.tools, Tool("free")))
    with pytest.raises(DataError, match=r"server without a name(?s:.*)where: f:3, decision 1"):
        stage_examples([free], renderer, "router", "turn")
    late = replace(free, messages=(Message("user", "x"), Message("system", "y"), Message("assistant", "z")))
    with pytest.raises(PromptError, match=r"system message(?s:.*)where: f:3, decision 1"):
        stage_examples([late], renderer, "selector", "turn")
