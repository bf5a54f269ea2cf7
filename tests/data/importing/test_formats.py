"""Data of other programs: a small sample of each form becomes the lines that it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.data import read_trajectories
from dualtune_mlx.data.checking import check_data
from dualtune_mlx.data.importing import import_data, recognize
from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.tools import ToolCall, Trajectory

NUMBER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
WEATHER = {"name": "weather", "description": "Tells the weather.", "parameters": NUMBER}
LOOSE = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {
        "city": {"description": "Where.", "type": "str"},
        "days": {"description": "How many.", "type": "int, optional", "default": 3},
        "units": {"description": "Which.", "type": "List[str], optional"},
    },
}
USER = {"role": "user", "content": "Will it rain in Rome?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
HERMES = "You call functions. <tools> [{}] </tools> For each call return a json object in <tool_call> tags."

OPENAI = {
    "tools": [{"type": "function", "function": WEATHER}],
    "parallel_tool_calls": False,
    "messages": [
        {**USER, "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 1, "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "yes"},
        {"role": "assistant", "content": "It will."},
    ],
}
OLDER = {
    "functions": [WEATHER],
    "messages": [
        USER,
        {"role": "assistant", "function_call": {"name": "weather", "arguments": '{"city": "Rome"}'}},
        {"role": "function", "name": "weather", "content": "yes"},
        {"role": "assistant", "content": "It will."},
    ],
}
AS_TEXT = {**OPENAI, "tools": json.dumps(OPENAI["tools"]), "source": "mine"}
SHAREGPT = {
    "tools": json.dumps([WEATHER]),
    "conversations": [
        {"from": "human", "value": USER["content"]},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
        {"from": "observation", "value": "yes"},
        {"from": "gpt", "value": "It will."},
    ],
}
IN_HERMES_FORM = {
    "id": "x1",
    "conversations": [
        {"from": "system", "value": HERMES.replace("{}", json.dumps({"type": "function", "function": WEATHER}))},
        {"from": "human", "value": USER["content"]},
        {
            "from": "gpt",
            "value": "<think>hm</think>\n<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Rome'}}\n</tool_call>",
        },
        {"from": "tool", "value": "<tool_response>\nyes\n</tool_response>"},
        {"from": "gpt", "value": "It will."},
    ],
}
XLAM = {
    "id": 7,
    "query": USER["content"],
    "answers": json.dumps([{"name": "weather", "arguments": {"city": "Rome"}}]),
    "tools": json.dumps([LOOSE]),
}
BFCL = {
    "id": "simple_7",
    "question": [[USER]],
    "function": [
        {
            **WEATHER,
            "parameters": {
                **NUMBER,
                "type": "dict",
                "properties": {"city": {"type": "string"}, "days": {"type": "float"}},
            },
        }
    ],
}
ANSWER = {"id": "simple_7", "ground_truth": [{"weather": {"city": ["Rome", "Roma"], "days": ["", 3]}}]}
RAIN = ToolCall("weather", {"city": "Rome"})


def take(folder: Path, *records: Any, form: str = "auto", name: str = "theirs.jsonl") -> list[Trajectory]:
    """Import records; all have to be taken, and the check has to find no error in them."""
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))
    (made,) = import_data([folder / name], folder / "data", form)
    assert (made.lines, made.rejected, dict(made.reasons)) == (len(records), None, {})
    with check_data(made.path) as report:
        assert report.errors == 0
    return read_trajectories(made.path)


@pytest.mark.parametrize(
    ("record", "form", "whole"),
    [
        (OPENAI, "openai", True),
        (OLDER, "openai", True),
        (AS_TEXT, "openai", True),
        (SHAREGPT, "sharegpt", True),
        (IN_HERMES_FORM, "sharegpt", True),
        (XLAM, "xlam", False),
    ],
    ids=["OpenAI", "OpenAI's older form", "tools as text", "ShareGPT", "Hermes", "xLAM"],
)
def test_each_form_means_the_same_conversation(tmp_path, record, form, whole):
    (taken,) = take(tmp_path, record)
    assert recognize(tmp_path / "theirs.jsonl") == form
    roles = [message.role for message in taken.messages]
    assert roles == (["user", "assistant", "tool", "assistant"] if whole else ["user", "assistant"])
    assert [message.content for message in taken.messages] == [USER["content"], "", "yes", "It will."][: len(roles)]
    assert taken.messages[1].tool_calls == (RAIN,)
    (tool,) = taken.tools
    assert (tool.name, tool.description) == ("weather", "Tells the weather.")
    assert {"city", "days"} <= set(tool.parameters["properties"]) and tool.parameters["required"] == ["city"]
    line = json.loads((tmp_path / "data" / "theirs.jsonl").read_text())
    assert line["metadata"]["source"] == ("mine" if record is AS_TEXT else form)


def test_types_of_python_become_those_of_json_schema(tmp_path):
    (taken,) = take(tmp_path, XLAM)
    assert taken.tools[0].parameters["properties"] == {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer", "description": "How many."},
        "units": {"type": "array", "items": {"type": "string"}, "description": "Which."},
    }


def test_bfcl_s_answers_stand_in_a_file_beside(tmp_path):
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "possible_answer" / "BFCL_x.json").write_text(json.dumps(ANSWER) + "\n")
    unserved = {**BFCL, "id": "irrelevance_3", "question": [[{"role": "user", "content": "Sing!"}]]}
    rain, sing = take(tmp_path, BFCL, unserved, name="BFCL_x.json")
    assert rain.messages[1].tool_calls == (RAIN,)
    assert rain.tools[0].parameters["properties"]["days"] == {"type": "number"}
    assert not sing.messages[1].tool_calls


def test_the_first_possible_value_is_taken_at_all_depths(tmp_path):
    tool = {"name": "brew", "description": "", "parameters": {"type": "dict", "properties": {"what": {"type": "dict"}}}}
    possible = {"what": [{"size": ["large", "big"], "milk": [""], "shots": [[1, 2]]}]}
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "possible_answer" / "q.json").write_text(json.dumps({"id": "q", "ground_truth": [{"brew": possible}]}))
    (taken,) = take(tmp_path, {"id": "q", "question": [[USER]], "function": [tool]}, name="q.json")
    assert taken.messages[1].tool_calls[0].arguments == {"what": {"size": "large", "shots": [1, 2]}}


def test_several_calls_and_results_of_one_turn_stay_together(tmp_path):
    calls = "".join(f'<tool_call>{{"name": "weather", "arguments": {{"city": "{city}"}}}}</tool_call>' for city in "AB")
    results = "<tool_response>wet</tool_response><tool_response>dry</tool_response>"
    turns = [("human", "A and B?"), ("gpt", f"Both. {calls}"), ("tool", results), ("gpt", "Done.")]
    record = {"tools": [WEATHER], "conversations": [{"from": who, "value": text} for who, text in turns]}
    (taken,) = take(tmp_path, record)
    assert [call.arguments["city"] for call in taken.messages[1].tool_calls] == ["A", "B"]
    assert [message.content for message in taken.messages[1:]] == ["Both.", "wet", "dry", "Done."]


def test_what_cannot_be_taken_is_kept_apart_with_its_reason(tmp_path):
    wrong = json.dumps([{"name": "weather", "arguments": {"town": "Rome"}}])
    records = [
        XLAM,
        {**XLAM, "answers": wrong},
        {**XLAM, "tools": "{"},
        {"query": 5, "answers": "[]", "tools": "[]"},
        7,
    ]
    (tmp_path / "x.json").write_text(json.dumps(records))
    (made,) = import_data([tmp_path / "x.json"], tmp_path / "data")
    assert (made.lines, dict(made.reasons)) == (1, {"schema": 1, "record": 2, "message": 1})
    apart = [json.loads(line) for line in (tmp_path / "data" / "x.rejected.jsonl").read_text().splitlines()]
    assert [one["line"] for one in apart] == records[1:]
    assert "'city' is a required property" in apart[0]["detail"] and apart[0]["reason"] == "schema"


def test_a_line_that_is_no_json_is_kept_apart(tmp_path):
    (tmp_path / "x.jsonl").write_text(f"{json.dumps(XLAM)}\n{{\n{json.dumps(XLAM)}\n")
    (made,) = import_data([tmp_path / "x.jsonl"], tmp_path / "data")
    assert (made.lines, dict(made.reasons)) == (2, {"record": 1})


def test_a_list_is_read_item_by_item_however_long(tmp_path, monkeypatch):
    monkeypatch.setattr("dualtune_mlx.data.importing.records.CHUNK", 7)
    (tmp_path / "x.json").write_text(json.dumps([{**XLAM, "id": n} for n in range(20)], indent=1))
    (made,) = import_data([tmp_path / "x.json"], tmp_path / "data")
    assert made.lines == 20
    (tmp_path / "y.json").write_text(json.dumps([XLAM, XLAM])[:-20])
    with pytest.raises(DataError, match="list of records is broken(?s:.*)record 2"):
        import_data([tmp_path / "y.json"], tmp_path / "data")
    assert not (tmp_path / "data" / "y.jsonl").exists()


def test_a_folder_s_files_keep_their_names_and_use_its_tools(tmp_path):
    source = tmp_path / "theirs"
    source.mkdir()
    (source / "tools.json").write_text(json.dumps(OPENAI["tools"]))
    for split in ("train", "valid"):
        (source / f"{split}.jsonl").write_text(json.dumps({"messages": OPENAI["messages"]}) + "\n")
    (source / "notes.json").write_text('{"a": 1}')
    train, valid, notes = import_data([source], tmp_path / "data")
    assert [one.path.name for one in (train, valid)] == ["train.jsonl", "valid.jsonl"]
    assert (notes.path, notes.format, notes.lines) == (source / "notes.json", "", 0)
    assert read_trajectories(train.path)[0].tools[0].name == "weather"


def test_what_is_there_is_not_overwritten_and_unknown_forms_are_refused(tmp_path):
    take(tmp_path, OPENAI)
    with pytest.raises(UsageError, match="is there already"):
        import_data([tmp_path / "theirs.jsonl"], tmp_path / "data")
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(DataError, match=r"form of a file is not known(?s:.*)prompt, completion(?s:.*)--format"):
        import_data([tmp_path / "x.jsonl"], tmp_path / "data")
    with pytest.raises(UsageError, match="cannot be read"):
        import_data([tmp_path / "nowhere.json"], tmp_path / "data")
