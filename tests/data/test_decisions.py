"""The decisions of a trajectory: calls, ends of parts, answers; and its plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualtune_mlx.data.decisions import call_decisions, plan_decisions
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory

READ, WRITE = ToolCall("read"), ToolCall("write")
TOOLS = (Tool("read"), Tool("write"))


def conversation(*messages: Message) -> Trajectory:
    return Trajectory(messages, TOOLS)


def said(trajectory: Trajectory) -> list[tuple[int, str, str]]:
    """Of every decision: the messages before it, what was chosen, and the part that was due."""
    return [(len(step.messages), step.call.name, step.subtask) for step in call_decisions(trajectory)]


TWO_PARTS = conversation(
    Message("user", "read it twice, then write it", subtasks=("read it twice", "write it")),
    Message("assistant", tool_calls=(READ,), subtask="read it twice"),
    Message("tool", "r"),
    Message("assistant", tool_calls=(READ,), subtask="read it twice"),
    Message("tool", "r"),
    Message("assistant", tool_calls=(WRITE,), subtask="write it"),
    Message("tool", "w"),
    Message("assistant", "Done."),
)


def test_a_part_ends_with_respond_before_the_next_begins() -> None:
    assert said(TWO_PARTS) == [
        (1, "read", "read it twice"),
        (3, "read", "read it twice"),
        (5, "respond", "read it twice"),
        (5, "write", "write it"),
        (7, "respond", "write it"),
    ]


def test_without_parts_every_assistant_message_is_a_decision() -> None:
    whole = conversation(
        Message("user", "read and write"),
        Message("assistant", tool_calls=(READ, WRITE)),
        Message("tool", "r"),
        Message("tool", "w"),
        Message("assistant", "Done."),
    )
    assert said(whole) == [(1, "read", ""), (2, "write", ""), (4, "respond", "")]


def test_a_new_request_has_parts_of_its_own() -> None:
    again = (*TWO_PARTS.messages, Message("user", "thanks"), Message("assistant", "You are welcome."))
    assert said(conversation(*again))[-1] == (9, "respond", "")


def test_every_request_that_is_answered_is_divided() -> None:
    more = (*TWO_PARTS.messages, Message("user", "thanks"), Message("assistant", "Welcome."), Message("user", "bye"))
    found = [(len(step.messages), step.call.name, step.call.arguments) for step in plan_decisions(conversation(*more))]
    assert found == [(1, "plan", {"parts": ["read it twice", "write it"]}), (9, "plan", {"parts": []})]


@pytest.mark.parametrize("end", [3, 5])
def test_a_run_that_failed_early_still_has_its_whole_plan(end: int) -> None:
    (plan,) = plan_decisions(conversation(*TWO_PARTS.messages[:end]))
    assert plan.call.arguments == {"parts": ["read it twice", "write it"]}


def weighted(trajectory: Trajectory, *context: int) -> Trajectory:
    """The trajectory with these of its messages as context alone."""
    return replace(
        trajectory,
        messages=tuple(replace(m, weight=0) if i in context else m for i, m in enumerate(trajectory.messages)),
    )


def test_a_message_of_weight_0_decides_nothing_and_is_known_afterwards() -> None:
    found = weighted(TWO_PARTS, 3)
    assert said(found) == [
        (1, "read", "read it twice"),
        (5, "respond", "read it twice"),
        (5, "write", "write it"),
        (7, "respond", "write it"),
    ]
    assert list(call_decisions(found))[-1].messages == found.messages[:-1]


def test_the_end_of_a_part_is_decided_by_the_message_behind_it() -> None:
    assert (5, "respond", "read it twice") not in said(weighted(TWO_PARTS, 5))
    assert (7, "respond", "write it") in said(weighted(TWO_PARTS, 5))


def test_an_answer_of_weight_0_is_not_the_choice_of_respond() -> None:
    assert [name for _, name, _ in said(weighted(TWO_PARTS, 7))] == ["read", "read", "respond", "write"]


@pytest.mark.parametrize(
    ("context", "planned"),
    [((), 2), ((1, 3, 5), 2), ((1, 3, 5, 7), 1), ((0,), 1), ((9,), 1), ((0, 9), 0)],
    ids=["none", "all calls", "all that is done for a request", "the request", "the answer", "both"],
)
def test_a_plan_is_learned_where_something_of_its_request_is(context, planned) -> None:
    more = conversation(*TWO_PARTS.messages, Message("user", "thanks"), Message("assistant", "Welcome."))
    assert len(list(plan_decisions(weighted(more, *context)))) == planned
