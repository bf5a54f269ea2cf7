"""``dualtune data import`` and ``data split``: what they write, say and refuse."""

from __future__ import annotations

import json
from pathlib import Path

from dualtune_mlx.data import read_split, read_trajectories
from tests.cli.conftest import dualtune
from tests.data.checking.planted import TOOLS, clean_line, encode, write
from tests.data.importing.test_formats import SHAREGPT, XLAM


def write_transcript(path: Path, *events: dict) -> None:
    begin = {"version": 1, "messages": [{"role": "user", "content": "Remove note 4"}], "today": "2026-11-30"}
    lines = [{"event": "begin", **begin}, {"event": "tools", "tools": TOOLS}, *events]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def call(*, fails: bool) -> list[dict]:
    made = {"step": 1, "server": "desk", "name": "delete_note", "arguments": {"id": 4}, "part": ""}
    result = {"text": "gone", "is_error": fails, "seconds": 0.1, "details": ""}
    return [{"event": "call", **made, "confidence": 0.9, "candidates": []}, {"event": "result", **result}]


def test_import_says_what_it_took_and_what_not(tmp_path):
    (tmp_path / "x.jsonl").write_text(f"{json.dumps(XLAM)}\n{{\n")
    result = dualtune("data", "import", tmp_path / "x.jsonl", "--data", tmp_path / "data")
    assert result.exit_code == 0, result.output
    assert "1 line of the form xlam" in result.output and "not taken: 1 (record)" in result.output
    assert len(read_trajectories(tmp_path / "data" / "x.jsonl")) == 1
    assert len((tmp_path / "data" / "x.rejected.jsonl").read_text().splitlines()) == 1


def test_import_exits_with_1_where_nothing_can_be_taken(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"conversations": 5}\n')
    result = dualtune("data", "import", tmp_path / "x.jsonl", "--data", tmp_path / "data", "--json")
    assert result.exit_code == 1
    (made,) = json.loads(result.stdout)
    assert (made["lines"], made["reasons"], made["format"]) == (0, {"record": 1}, "sharegpt")


def test_transcripts_become_one_file_without_runs_in_which_nothing_succeeded(tmp_path):
    for name, fails in (("a", False), ("b", True), ("c", False)):
        write_transcript(tmp_path / f"{name}.jsonl", *call(fails=fails))
    result = dualtune("data", "import", *sorted(tmp_path.glob("*.jsonl")), "--data", tmp_path / "data")
    assert result.exit_code == 0, result.output
    one, other = read_trajectories(tmp_path / "data" / "transcripts.jsonl")
    assert one == other and one.messages[1].tool_calls[0].arguments == {"id": 4} and one.today == "2026-11-30"
    (apart,) = (tmp_path / "data" / "transcripts.rejected.jsonl").read_text().splitlines()
    assert json.loads(apart)["line"] == str(tmp_path / "b.jsonl")


def test_other_data_is_led_to_the_import(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps(SHAREGPT) + "\n")
    result = dualtune("data", "check", tmp_path)
    assert result.exit_code == 1 and "fix: bring it into this form: dualtune data import FILE" in result.output


def test_split_shows_the_lines_of_each_tool(tmp_path):
    write(tmp_path, {"requests": [encode(clean_line("train", n)) for n in range(60)]})
    data = tmp_path / "data"
    result = dualtune("data", "split", tmp_path / "requests.jsonl", "--data", data, "--test", "0")
    assert result.exit_code == 0, result.output
    rows = {row.split()[0]: row.split()[1:] for row in result.output.splitlines() if len(row.split()) == 4}
    assert sum(map(int, rows["all"])) == 60 and rows["all"][2] == "0" and "desk/delete_note" in rows
    assert len(read_split(data, "train")) + len(read_split(data, "valid")) == 60
    again = dualtune("data", "split", tmp_path / "requests.jsonl", "--data", data, "--json")
    assert again.exit_code == 2 and "--replace" in again.output
