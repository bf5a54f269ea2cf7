"""Long conversations: what is left out, what stays, and what is dropped with a reason."""

from __future__ import annotations

import pytest

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.errors import DataError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, ToolCall, Trajectory
from dualtune_mlx.training.examples import stage_examples
from dualtune_mlx.training.window import cut_to_window
from tests import tiny
from tests.training.data import TOOLS

CALL = Message("assistant", "", (ToolCall("read", {"path": "a"}),))
LONG = (
    Message("system", "s"),
    Message("user", "first"),
    CALL,
    Message("tool", "result 1"),
    Message("assistant", "answer"),
    Message("user", "second"),
    CALL,
    Message("tool", "result 2"),
    Message("tool", "result 3"),
)


def contents(decision):
    return [message.content or "call" for message in decision.messages]


@pytest.mark.parametrize(
    ("window", "kept"),
    [
        (9, ["s", "first", "call", "result 1", "answer", "second", "call", "result 2", "result 3"]),
        (8, ["s", "call", "result 1", "answer", "second", "call", "result 2", "result 3"]),
        (7, ["s", "answer", "second", "call", "result 2", "result 3"]),
        (5, ["s", "second", "call", "result 2", "result 3"]),
        (4, None),
    ],
)
def test_the_oldest_exchanges_go_first_and_results_go_with_their_call(window, kept):
    decision = cut_to_window(
        Decision(LONG, TOOLS, ToolCall("read", {"path": "b"})), window, lambda it: len(it.messages)
    )
    assert (decision and contents(decision)) == kept


def test_a_request_stays_when_results_follow_it():
    messages = (Message("user", "task"), *[CALL, Message("tool", "result")] * 5)
    decision = cut_to_window(Decision(messages, TOOLS, ToolCall("read", {"path": "b"})), 4, lambda it: len(it.messages))
    assert contents(decision) == ["task", "call", "result"]


def test_examples_are_cut_and_counted_or_dropped_with_a_reason():
    base = tiny.model()
    renderer = PromptRenderer(Template("chatml"), base.tokenizer, "name")
    trajectory = Trajectory((*LONG, CALL), TOOLS, "line 7")
    whole = stage_examples([trajectory], renderer, "arguments", "turn")
    length = max(len(item.tokens) for item in whole.examples)
    assert (whole.cut, whole.dropped, whole.counts) == (0, (), {"fs/read": 3})

    shorter = stage_examples([trajectory], renderer, "arguments", "turn", window=length - 1)
    assert (shorter.cut, shorter.dropped) == (1, ())
    assert shorter.examples[-1].learned == whole.examples[-1].learned

    long_request = Trajectory((Message("user", "x" * 1000), CALL), TOOLS, "line 8")
    one_left = stage_examples([trajectory, long_request], renderer, "arguments", "turn", window=length)
    (reason,) = one_left.dropped
    assert reason.startswith("line 8, decision 1: ")
    assert f"exceeds {length}" in reason
    with pytest.raises(DataError, match="line 8"):
        stage_examples([long_request], renderer, "arguments", "turn", window=length)
