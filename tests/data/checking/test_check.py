"""The check of data: planted faults are all found, clean data has none, and what is taken out is kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.data import read_split
from dualtune_mlx.data.checking import KINDS, check_data
from dualtune_mlx.errors import DataError, UsageError
from tests.data.checking.planted import TOOLS, message, note, write, write_clean, write_planted


def find(data: Path, **more: Any) -> set[tuple[str, int, str]]:
    with check_data(data, **more) as report:
        return {(one.file, one.line, one.kind) for one in report.iter_findings()}


@pytest.mark.parametrize("seed", [0, 1])
def test_200_planted_faults_are_all_found_and_nothing_else(tmp_path, seed):
    planted = write_planted(tmp_path, 200, seed)
    assert len(planted) >= 200 and len({kind for _, _, kind in planted}) >= 25
    assert find(tmp_path) == planted


def test_a_clean_set_has_no_fault(tmp_path):
    write_clean(tmp_path)
    with check_data(tmp_path) as report:
        assert list(report.iter_findings()) == []
        assert (report.errors, report.warnings, report.counts["train"].lines) == (0, 0, 900)


def test_several_processes_find_the_same(tmp_path):
    planted = write_planted(tmp_path, 60)
    assert find(tmp_path, processes=2) == planted


def test_fix_takes_out_what_that_mends_and_keeps_it(tmp_path):
    clean = write_clean(tmp_path / "clean")
    planted = write_planted(tmp_path / "data", 200)
    before = {split: lines_of(tmp_path / "data" / f"{split}.jsonl") for split in clean}
    with check_data(tmp_path / "data", fix=True) as report:
        left = {one.kind for one in report.iter_findings()}
        removed = {one.path.name: one for one in report.removed}
    assert left and all(not KINDS[kind].removable for kind in left)
    for split, lines in clean.items():
        after, aside = lines_of(tmp_path / "data" / f"{split}.jsonl"), tmp_path / "data" / f"{split}.removed.jsonl"
        gone = [json.loads(line) for line in lines_of(aside)] if aside.exists() else []
        assert Counter(lines) - Counter(after) == Counter()  # what is right is there, byte for byte
        taken = {one["line"] for one in gone}
        assert after == [line for number, line in enumerate(before[split], 1) if number not in taken]
        assert {(f"{split}.jsonl", one["line"], one["reason"]) for one in gone} <= planted
        assert Counter(one["reason"] for one in gone) == (removed[f"{split}.jsonl"].kinds if gone else {})
        assert all(before[split][one["line"] - 1].decode(errors="replace") == one["text"] for one in gone)
    assert len(read_split(tmp_path / "data", "train")) > 900
    with check_data(tmp_path / "data", fix=True) as again:
        assert again.removed == ()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_a_second_fix_adds_to_what_the_first_one_kept(tmp_path):
    for _ in range(2):
        write(tmp_path, {"train": [note("Remove note 4", 4), b"{"]})
        with check_data(tmp_path, fix=True) as report:
            assert report.removed[0].kinds == {"json": 1}
    assert len(lines_of(tmp_path / "train.removed.jsonl")) == 2


def test_a_shared_wording_is_taken_out_of_what_is_learned(tmp_path):
    write(tmp_path, {"train": [note("Shred memo 4", 4), note("drop 5", 5)], "test": [note("shred  MEMO 6", 6)]})
    with check_data(tmp_path, fix=True) as report:
        assert report.errors == 0
    assert lines_of(tmp_path / "train.jsonl") == [note("drop 5", 5)]
    assert lines_of(tmp_path / "test.jsonl") == [note("shred  MEMO 6", 6)]


def test_tools_that_are_hardly_called_and_arguments_never_given_are_said(tmp_path):
    write(tmp_path, {"train": [note(f"drop {n} {'xyz'[n % 3] * n}", n) for n in range(40)]})
    read = {"messages": [message("user", "Show a.txt"), message("assistant", "", ("read_file", {"path": "a.txt"}))]}
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write(json.dumps(read) + "\n")
    with check_data(tmp_path) as report:
        said = [one.what for one in report.iter_findings("rare_tool")]
        assert report.errors == 0
    assert [what.split()[0] for what in said] == [
        "desk/create_event",
        "desk/read_file",
        "desk/send_message",
        "desk/tag_notes",
    ]
    always = {"to": "Ada", "text": "hi", "urgent": True}
    lines = [
        json.dumps(
            {
                "messages": [
                    message("user", f"hi {n}"),
                    message("assistant", "", ("send_message", always | {"text": str(n)})),
                ]
            }
        )
        for n in range(20)
    ]
    write(tmp_path, {"train": [line.encode() for line in lines]})
    with check_data(tmp_path) as report:
        (found,) = report.iter_findings("optional_argument")
    assert found.line == 0 and "in 20 calls always given: urgent" in found.what


def test_the_same_request_with_other_visible_tools_is_no_contradiction(tmp_path):
    other = [one for one in TOOLS if one["function"]["name"] != "delete_note"]
    refused = {"messages": [message("user", "Remove note 4"), message("assistant", "I cannot.")], "tools": other}
    write(tmp_path, {"train": [note("Remove note 4", 4), json.dumps(refused).encode()]})
    assert find(tmp_path) == set()


def test_case_that_is_the_request_s_is_no_contradiction(tmp_path):
    lines = [
        {"messages": [message("user", f"Show {path}"), message("assistant", "", ("read_file", {"path": path}))]}
        for path in ("README", "readme")
    ]
    write(tmp_path, {"train": [json.dumps(line).encode() for line in lines]})
    assert find(tmp_path) == set()


def test_what_was_called_for_may_be_said(tmp_path):
    read, done = message("assistant", "", ("read_file", {"path": "a"})), message("assistant", "I have read it.")
    lines = [
        {"messages": [message("user", "Show a"), read, message("tool", "x"), done]},
        {"messages": [message("user", "Is it read yet?"), {**done, "weight": 0}, message("user", "Show a"), read]},
    ]
    write(tmp_path, {"train": [json.dumps(line).encode() for line in lines]})
    assert find(tmp_path) == set()


def test_a_told_date_needs_no_today(tmp_path):
    event = ("create_event", {"title": "tea", "day": "2026-12-01"})
    user, call = message("user", "tea tomorrow"), message("assistant", "", event)
    lines = [
        {"messages": [user, call], "today": "2026-11-30"},
        {"messages": [message("system", "Today is Monday, November 30"), user, call]},
        {"messages": [message("user", "tea tomorrow, 2026-12-01"), call]},
    ]
    write(tmp_path, {"train": [json.dumps(line).encode() for line in lines]})
    assert find(tmp_path) == set()


def test_a_secret_is_not_repeated(tmp_path):
    key = "AKIA" + "QWERTZUIOPASDFGH"
    write(tmp_path, {"train": [note(f"save {key}", 4), f'{{"key": "{key}"'.encode()]})
    with check_data(tmp_path) as report:
        said = "".join(one.what for one in report.iter_findings())
    assert "an AWS access key" in said and key not in said


def test_a_folder_without_splits_has_all_its_files_checked(tmp_path):
    write(tmp_path, {"requests": [note("drop 4", 4)], "requests.removed": [b"{"], "rejected": [b"{"], "more": [b"{"]})
    assert find(tmp_path) == {("more.jsonl", 1, "json")}
    assert find(tmp_path / "requests.jsonl") == set()


def test_what_cannot_be_checked_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no data to check(?s:.*)no such"):
        find(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no data to check(?s:.*)no .jsonl file"):
        find(tmp_path)
    (tmp_path / "train.jsonl").write_bytes("{}".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        find(tmp_path)
    (tmp_path / "train.jsonl").write_bytes(b"\n \n")
    assert find(tmp_path) == {("train.jsonl", 0, "empty_file")}
