"""Metrics: what counts as right, and how sure that is."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest

from dualtune_mlx import DualTune, Tool, ToolCall
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine.stage import Stage
from dualtune_mlx.errors import DataError, DecodingError, ToolError
from dualtune_mlx.evaluation.calls import Report, ScoredCall, evaluate_calls, same_json, wilson_interval
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Trajectory
from tests import tiny

GOLD = ToolCall("read", {"path": "a", "n": 3}, "fs")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # R: binom::binom.confint(x, n, method = "wilson")
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (1, 2, 0.0945, 0.9055),
        (263, 420, 0.5789, 0.6711),
    ],
)
def test_the_interval_is_wilson_s(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx([low, high], abs=2e-4)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 3}, {"a": 3.0}, True),
        ({"a": [1, {"b": 2.0}]}, {"a": [1.0, {"b": 2}]}, True),
        (1e20, 10**20, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ("3", 3, False),
        ("a", "A", False),
        (0.1, 0.2, False),
    ],
)
def test_json_values_are_compared_as_json(left, right, equal):
    assert same_json(left, right) is equal
    assert same_json(right, left) is equal


@pytest.mark.parametrize(
    ("predicted", "right"),
    [
        (ToolCall("read", {"n": 3.0, "path": "a"}, "fs"), ["server", "tool", "call"]),
        (ToolCall("read", {"path": "b", "n": 3}, "fs"), ["server", "tool"]),
        (ToolCall("list", {"path": "a", "n": 3}, "fs"), ["server"]),
        (ToolCall("read", {"path": "a", "n": 3}, "git"), []),
    ],
)
def test_a_call_is_right_only_when_everything_above_it_is(predicted, right):
    scored = ScoredCall("show a", GOLD, predicted)
    assert [metric for metric in ("server", "tool", "call") if scored.is_right(metric)] == right


def test_a_report_holds_accuracies_intervals_and_examples():
    wrong = ToolCall("read", {}, "fs", confidence=0.5)
    report = Report(
        (ScoredCall("a", GOLD, GOLD), ScoredCall("b", GOLD, wrong), ScoredCall("c", GOLD, GOLD, "too long"))
    )
    value = report.to_dict()
    assert (value["n"], value["server"], value["tool"]) == (3, 1.0, 1.0)
    assert value["call"] == report.accuracy("call") == pytest.approx(1 / 3)
    assert value["intervals"]["call"] == wilson_interval(1, 3)
    gold = {"server": "fs", "name": "read", "arguments": {"path": "a", "n": 3}}
    assert value["examples"][1] == {
        "request": "b",
        "gold": gold,
        "predicted": {"server": "fs", "name": "read", "arguments": {}, "confidence": 0.5},
    }
    assert value["examples"][2]["failure"] == "too long"


class Recorder:
    """Stands in for the engine: gives what it is told, and keeps what it was asked."""

    decoding = Decoding()

    def __init__(self, answer: ToolCall | Exception, tells_date: bool = False) -> None:
        self.answer, self.tells_date = answer, tells_date
        self.dates: list[str] = []
        self.asked: list[tuple[Message, ...]] = []
        self.written: list[tuple[Message, ...]] = []
        self.due: list[str] = []

    def select(self, messages, tools, *, top_k, subtask):
        self.asked.append(messages)
        self.due.append(subtask)
        assert top_k == 1
        return [(tools[0], 0.9)]

    def stage(self, name, tool):
        del tool
        return Stage(name, grounding={"fs/read": {"path": ("all",)}})

    def arguments(self, messages, tool, tools, *, subtask, today, max_tokens):
        del tool, tools, max_tokens
        self.dates.append(today)
        self.due.append(subtask)
        self.written.append(messages)
        if isinstance(self.answer, Exception):
            raise self.answer
        return dict(self.answer.arguments)


TRAJECTORY = Trajectory(
    (
        Message("user", "show a"),
        Message("assistant", "", (ToolCall("read", {"path": "a", "n": 3}),)),
        Message("tool", "A"),
        Message("assistant", "it is A"),
    ),
    (Tool("read", "", {"type": "object", "properties": {"path": {"type": "string"}, "n": {"type": "integer"}}}, "fs"),),
)


def test_every_decision_is_asked_with_everything_before_it():
    engine, progress = Recorder(GOLD), []
    report = evaluate_calls(engine, [TRAJECTORY], report=lambda done, total: progress.append((done, total)))
    assert engine.asked == [TRAJECTORY.messages[:1], TRAJECTORY.messages[:3]]
    assert progress == [(1, 2), (2, 2)]
    assert [item.gold.name for item in report.calls] == ["read", "respond"]
    assert [item.is_right("call") for item in report.calls] == [True, False]
    assert report.calls[0].predicted == ToolCall("read", GOLD.arguments, "fs", 0.9)
    assert [item.request for item in report.calls] == ["show a", "show a"]


def test_a_decision_is_asked_for_its_part():
    first, call, *rest = TRAJECTORY.messages
    parts = replace(first, subtasks=("show a", "go")), replace(call, subtask="show a"), *rest
    engine = Recorder(GOLD)
    evaluate_calls(engine, [Trajectory(parts, TRAJECTORY.tools)])
    assert engine.due == ["show a"] * 3


@pytest.mark.parametrize("tells_date", [True, False])
def test_a_decision_is_asked_with_the_date_of_its_conversation(tells_date):
    engine = Recorder(GOLD, tells_date)
    evaluate_calls(engine, [replace(TRAJECTORY, today="2026-11-30"), TRAJECTORY])
    assert engine.dates == (["2026-11-30", ""] if tells_date else ["", ""])


def test_the_arguments_of_a_wrong_tool_are_not_written():
    engine = Recorder(GOLD)
    report = evaluate_calls(engine, [TRAJECTORY])
    assert engine.written == [TRAJECTORY.messages[:1]]
    assert (report.calls[1].predicted.name, report.calls[1].is_right("tool")) == ("read", False)
    assert "not written" in report.calls[1].failure


@pytest.mark.parametrize("error", [DecodingError, ToolError])
def test_arguments_that_could_not_be_written_make_a_right_tool_a_wrong_call(error):
    (scored, _) = evaluate_calls(Recorder(error("too long")), [TRAJECTORY]).calls
    assert (scored.is_right("tool"), scored.is_right("call"), scored.failure) == (True, False, "too long")


@pytest.mark.parametrize(
    ("grounding", "arguments", "reason"),
    [
        ("data", {"path": "a", "n": 3}, ""),
        ("data", {"path": "all"}, ""),
        ("data", {"path": "a", "key": 1}, "$.key: after"),
        ("data", {"path": "b"}, "$.path: it is no copy from the conversation"),
        ("strict", {"path": "a", "n": 3}, ""),
        ("strict", {"path": "all"}, "$.path: it is no copy from the conversation"),
        ("auto", {"path": "b"}, ""),
        ("off", {"path": "b"}, ""),
    ],
)
def test_a_gold_call_that_could_never_be_written_is_counted(grounding, arguments, reason):
    request, _, *rest = TRAJECTORY.messages
    messages = (request, Message("assistant", "", (ToolCall("read", arguments),)), *rest)
    engine = Recorder(GOLD)
    engine.decoding = Decoding(grounding=grounding)
    report = evaluate_calls(engine, [Trajectory(messages, TRAJECTORY.tools)])
    assert report.calls[0].unwritable.startswith(reason)
    assert bool(report.calls[0].unwritable) == bool(reason)
    value = report.to_dict()
    assert value["unwritable"] == bool(reason)
    assert ["unwritable" in example for example in value["examples"]] == [bool(reason), False]


def test_a_gold_call_whose_schema_cannot_be_enforced_could_never_be_written():
    schema = {"type": "object", "properties": {"path": {"type": "string", "not": {"const": "b"}}}}
    (scored, _) = evaluate_calls(Recorder(GOLD), [replace(TRAJECTORY, tools=(Tool("read", "", schema, "fs"),))]).calls
    assert "cannot be enforced" in scored.unwritable


def test_a_conversation_that_is_too_long_is_a_wrong_call_and_ends_nothing():
    base = tiny.model(max_position_embeddings=400)
    dualtune = DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer))
    tools = (Tool("now", "Time."),)
    short, long = (
        Trajectory((Message("user", text), Message("assistant", "", (ToolCall("now"),))), tools)
        for text in ("time?", "time? " * 100)
    )
    first, second = evaluate_calls(dualtune, [long, short]).calls
    assert (first.failure, first.predicted.abstained) == (
        "the tools and the conversation are longer than the model's context",
        True,
    )
    assert [first.is_right(metric) for metric in ("server", "tool", "call")] == [False] * 3
    assert second.predicted.name


def test_what_the_engine_refuses_is_told_with_its_line():
    trajectory = Trajectory((Message("assistant", "hi"), Message("user", "x"), *TRAJECTORY.messages), (), "f:7")
    with pytest.raises(DataError, match="visible tools(?s:.*)where: f:7"):
        evaluate_calls(Recorder(GOLD), [replace(trajectory, messages=TRAJECTORY.messages)])


def test_decisions_of_weight_0_are_not_asked_for():
    request, calling, *rest = TRAJECTORY.messages
    engine = Recorder(GOLD)
    report = evaluate_calls(engine, [Trajectory((request, replace(calling, weight=0), *rest), TRAJECTORY.tools)])
    assert engine.asked == [(request, replace(calling, weight=0), rest[0])]
    assert report.to_dict()["n"] == 1


def test_data_without_a_decision_is_refused():
    with pytest.raises(DataError, match="no decision to ask for"):
        evaluate_calls(Recorder(GOLD), [Trajectory(TRAJECTORY.messages[:1], TRAJECTORY.tools)])


def test_a_gold_call_that_names_two_tools_is_no_gold():
    trajectory = Trajectory(TRAJECTORY.messages, (Tool("read", server="fs"), Tool("read", server="git")))
    with pytest.raises(DataError, match="several(?s:.*)fs/read or git/read"):
        evaluate_calls(Recorder(GOLD), [trajectory])


def test_an_evaluation_of_a_real_engine_agrees_with_calling_it():
    base = tiny.model()
    dualtune = DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer))
    (tool,) = tools = (Tool("now", "Time.", server="clock"),)
    trajectory = Trajectory((Message("user", "time?"), Message("assistant", "", (ToolCall("now"),))), tools)
    (scored,) = evaluate_calls(dualtune, [trajectory]).calls
    assert scored.predicted.name == dualtune.select("time?", tools, top_k=1)[0][0].name
    assert scored.gold == ToolCall("now", {}, tool.server)


def test_the_token_budget_reaches_the_engine():
    base = tiny.model()
    dualtune = DualTune(base, PromptRenderer(Template("chatml"), base.tokenizer))
    text = {"type": "object", "properties": {"text": {"type": "string", "minLength": 50}}, "required": ["text"]}
    tools = tuple(Tool(f"respond{letter}", "", text) for letter in string.ascii_letters + string.digits)
    ((chosen, _),) = dualtune.select("hi", tools, top_k=1)
    gold = ToolCall(chosen.name, {"text": "x" * 50})
    trajectory = Trajectory((Message("user", "hi"), Message("assistant", "", (gold,))), tools)
    (scored,) = evaluate_calls(dualtune, [trajectory], max_tokens=20).calls
    assert (scored.is_right("tool"), scored.is_right("call")) == (True, False)
    assert "token budget" in scored.failure
