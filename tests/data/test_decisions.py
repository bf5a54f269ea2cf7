"""The decisions of a trajectory: calls, ends of parts, answers; and its plans."""

from __future__ import annotations

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
