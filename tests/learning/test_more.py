"""Requests that are learned beside those that are made: seen with the tools that are learned, or refused by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.data.parsing import parse_line
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.learning.more import read_more
from tests.learning.notes import ADD, LIST

TOOLS = (ADD, LIST)


def line(request: str, name: str = "list_notes", arguments: Mapping[str, Any] | None = None, **beside: Any) -> str:
    call = {"type": "function", "function": {"name": name, "arguments": arguments or {}}}
    messages = [{"role": "user", "content": request}, {"role": "assistant", "tool_calls": [call]}]
    return json.dumps({"messages": messages, **beside}, ensure_ascii=False)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    return path


def test_requests_are_seen_with_the_tools_that_are_learned(tmp_path):
    older = replace(LIST, description="Lists.").to_dict()
    (tmp_path / "tools.json").write_text(json.dumps([older]))
    path = write(tmp_path / "hand.jsonl", line("list them", tools=[older], metadata={"family": "a"}))
    (read,) = map(json.loads, read_more([path], TOOLS, []))
    assert set(read) == {"messages", "metadata"} and read["metadata"] == {"family": "a"}
    (call,) = read["messages"][1]["tool_calls"]
    assert call["server"] == "notes", "so that it is known which tool it is of"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (line("drop them", "drop_notes"), "not among the visible tools"),
        (line("drop them", "drop_notes", tools=[replace(LIST, name="drop_notes").to_dict()]), "add_note, list_notes"),
        (line("note milk", "add_note", {"text": 3}), "add_note"),
        ("{", "JSON"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(tmp_path, wrong, said):
    path = write(tmp_path / "hand.jsonl", line("list them"), wrong)
    with pytest.raises(DualTuneError, match=said) as caught:
        read_more([path], TOOLS, [])
    assert f"{path}:2" in str(caught.value)


def test_a_file_that_is_missing_or_empty_is_named(tmp_path):
    for path in (tmp_path / "gone.jsonl", write(tmp_path / "empty.jsonl")):
        with pytest.raises(DualTuneError, match=path.name):
            read_more([path], TOOLS, [])


def test_calls_that_can_never_be_written_are_named_with_their_line(tmp_path):
    tool = replace(ADD, parameters={"type": "object", "properties": {"text": {"type": "string", "enum": ["a"]}}})
    path = write(tmp_path / "hand.jsonl", line("note a", "add_note", {"text": "a", "more": "b"}))
    with pytest.raises(DualTuneError, match="could never write") as caught:
        read_more([path], (tool, LIST), [])
    assert f"{path}:1" in str(caught.value)


def test_what_is_measured_is_not_learned(tmp_path):
    path = write(tmp_path / "hand.jsonl", line("list others"), line("List them!"))
    measured = [parse_line(line("list them"), TOOLS)]
    with pytest.raises(DualTuneError, match="measured") as caught:
        read_more([path], TOOLS, measured)
    assert f"{path}:2" in str(caught.value)
