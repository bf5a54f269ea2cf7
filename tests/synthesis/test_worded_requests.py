"""Requests of synthetic data as conversations and as lines of data files."""

import json

import pytest

from dualtune_mlx.data import read_trajectories, write_tools
from dualtune_mlx.synthesis.worded_requests import ANSWER, WordedRequest
from dualtune_mlx.tools import Tool, ToolCall

TOOLS = (
    Tool("add_note", "Add a note.", {"type": "object", "properties": {"text": {"type": "string"}}}, "notes"),
    Tool("list_notes", "List the notes.", {"type": "object", "properties": {}}, "notes"),
)
ADD = ToolCall("add_note", {"text": "buy milk"}, "notes")
LIST = ToolCall("list_notes", {}, "notes")


@pytest.mark.parametrize(
    ("request_", "contents"),
    [
        (WordedRequest("note: buy milk", (ADD,), "generator", "terse", "f1"), ["note: buy milk", ""]),
        (WordedRequest("How tall is a llama?", (), "generator", "question", "f2"), ["How tall is a llama?", ANSWER]),
        (
            WordedRequest(
                "note: buy milk, then list", (ADD, LIST), "teacher", "terse", "f3", ("note: buy milk", "list")
            ),
            ["note: buy milk, then list", "", ""],
        ),
    ],
)
def test_a_line_is_read_as_the_conversation(request_: WordedRequest, contents: list[str], tmp_path) -> None:
    line = request_.to_line()
    write_tools(tmp_path, TOOLS)
    (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n")
    (read,) = read_trajectories(tmp_path / "train.jsonl")
    assert read == request_.to_trajectory(TOOLS)
    assert [message.content for message in read.messages] == contents
    assert line["metadata"] == {"source": request_.source, "style": request_.style, "family": request_.family}


def test_calls_keep_their_subtasks() -> None:
    both = WordedRequest("note: buy milk, then list", (ADD, LIST), "teacher", "terse", "f", ("note: buy milk", "list"))
    calls = both.to_trajectory(TOOLS).messages[1:]
    assert [(message.subtask, message.tool_calls) for message in calls] == [
        ("note: buy milk", (ADD,)),
        ("list", (LIST,)),
    ]


def test_results_and_the_last_words_follow_the_calls() -> None:
    both = WordedRequest(
        "note: buy milk, then list", (ADD, LIST), "generator", "terse", "f", ("note: buy milk", "list"),
        answer="Failed.", results=("Error: full",),
    )  # fmt: skip
    roles = [(message.role, message.content) for message in both.to_trajectory(TOOLS).messages]
    assert roles == [
        ("user", "note: buy milk, then list"),
        ("assistant", ""),
        ("tool", "Error: full"),
        ("assistant", "Failed."),
    ]
