"""Data divided by wording families or by tools: nothing is shared, nothing is lost, and twice is the same."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.data import read_tools, read_trajectories
from dualtune_mlx.data.checking import check_data
from dualtune_mlx.data.splitting import split_data
from dualtune_mlx.data.wordings import fold_wording
from dualtune_mlx.errors import DataError, UsageError
from tests.data.checking.planted import TOOLS, clean_line, encode, message, note, write

VERBS = ("drop", "shred", "bin", "erase", "burn", "scrap", "trash", "wipe", "purge", "void")


@pytest.fixture
def requests(tmp_path) -> Path:
    """600 clean lines with families, and 100 that have none, in ten wordings."""
    lines = [encode(clean_line("train", n)) for n in range(600)]
    lines += [note(f"{VERBS[n % 10]} {n}", n) for n in range(1000, 1100)]
    write(tmp_path / "source", {"requests": lines})
    return tmp_path / "source" / "requests.jsonl"


def lines_of(folder: Path, split: str) -> list[bytes]:
    return (folder / f"{split}.jsonl").read_bytes().splitlines()


def families_of(line: bytes) -> str:
    return json.loads(line).get("metadata", {}).get("family", "")


def test_no_family_and_no_wording_is_in_two_splits_and_no_line_is_lost(requests, tmp_path):
    divided = split_data([requests], tmp_path / "data")
    lines = {split: lines_of(tmp_path / "data", split) for split in ("train", "valid", "test")}
    assert divided.lines == {split: len(own) for split, own in lines.items()}
    assert Counter(line for own in lines.values() for line in own) == Counter(requests.read_bytes().splitlines())
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for split in lines:
        for trajectory in read_trajectories(tmp_path / "data" / f"{split}.jsonl"):
            seen[fold_wording(trajectory)].add(split)
        for line in lines[split]:
            seen[f"family {families_of(line)}"].add(split)
    del seen["family "]
    assert len(seen) > 25 and all(len(splits) == 1 for splits in seen.values())
    assert read_tools(tmp_path / "data" / "tools.json") == read_tools(requests.with_name("tools.json"))
    with check_data(tmp_path / "data") as report:
        assert report.errors == 0


def test_every_tool_is_in_every_split_as_far_as_it_has_wordings(requests, tmp_path):
    divided = split_data([requests], tmp_path / "data")
    assert set(divided.tools) == {"respond", *(f"desk/{tool['function']['name']}" for tool in TOOLS)}
    assert divided.tools["desk/delete_note"].keys() == {"train", "valid", "test"}  # 13 wordings; the others have 3
    assert all({"train", "test"} <= counts.keys() for counts in divided.tools.values())
    assert all(counts["train"] >= sum(counts.values()) / 2 for counts in divided.tools.values())
    many = [note(f"{VERBS[n % 10]}{'xyz'[n // 10 % 3]} {n}", n) for n in range(900)]
    write(tmp_path / "many", {"all": many})
    shares = split_data([tmp_path / "many" / "all.jsonl"], tmp_path / "divided", valid=0.2, test=0.1).lines
    assert shares == {"train": 630, "valid": 180, "test": 90}
    write(tmp_path / "few", {"all": [note("drop 1", 1), note("drop 2", 2)]})
    assert split_data([tmp_path / "few" / "all.jsonl"], tmp_path / "one").lines == {"train": 2}


def test_families_with_a_wording_in_common_stay_together(tmp_path):
    chain = [note(f"{VERBS[n // 2 % 10]} {n}", n, f"family {(n + 1) // 2}") for n in range(20)]
    write(tmp_path, {"all": chain})
    assert split_data([tmp_path / "all.jsonl"], tmp_path / "data", valid=0.3, test=0.3).lines == {"train": 20}


def test_the_same_seed_divides_alike_and_another_one_does_not(requests, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        split_data([requests], tmp_path / name, seed=seed)
    assert lines_of(tmp_path / "a", "test") == lines_of(tmp_path / "b", "test")
    assert lines_of(tmp_path / "a", "test") != lines_of(tmp_path / "c", "test")


def test_whole_tools_are_held_out_by_tool(requests, tmp_path):
    both = {
        "messages": [
            message("user", "both"),
            message("assistant", "", ("delete_note", {"id": 1}), ("read_file", {"path": "a"})),
        ]
    }
    with requests.open("a") as file:
        file.write(json.dumps(both) + "\n")
    divided = split_data([requests], tmp_path / "data", by="tool", valid=0.2, test=0.2)
    held = {tool: set(counts) for tool, counts in divided.tools.items() if tool != "respond"}
    learned = {tool for tool, splits in held.items() if "train" in splits}
    assert learned and all(
        not held[tool] & {"valid", "test"} or tool in ("desk/delete_note", "desk/read_file") for tool in learned
    )
    assert any(splits == {"test"} for splits in held.values()) and any("valid" in splits for splits in held.values())
    assert sum(divided.lines.values()) == 701


def test_what_is_there_stays_unless_it_may_be_replaced(requests, tmp_path):
    split_data([requests], tmp_path / "data")
    own = tmp_path / "data" / "test.jsonl"
    own.write_bytes(note("my own", 1) + b"\n")
    with pytest.raises(UsageError, match="divided already(?s:.*)train.jsonl, test.jsonl, valid.jsonl(?s:.*)--replace"):
        split_data([requests], tmp_path / "data")
    assert "test" not in split_data([requests], tmp_path / "data", test=0, replace=True).lines
    assert own.read_bytes() == note("my own", 1) + b"\n"


def test_a_wrong_line_is_named_and_nothing_is_written(requests, tmp_path):
    with requests.open("a") as file:
        file.write("{\n")
    with pytest.raises(DataError, match=r"not JSON(?s:.*)requests.jsonl:701(?s:.*)dualtune data check"):
        split_data([requests], tmp_path / "data")
    assert not (tmp_path / "data" / "train.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"valid": 0.6, "test": 0.5}, "nothing for training"),
        ({"valid": -0.1}, "nothing for training"),
        ({"by": "date"}, "no such way"),
    ],
)
def test_wrong_shares_are_refused(requests, tmp_path, options, says):
    with pytest.raises(UsageError, match=says):
        split_data([requests], tmp_path / "data", **options)


def test_too_few_tools_and_different_tools_are_refused(tmp_path):
    write(tmp_path / "a", {"all": [note("drop 1", 1)]})
    with pytest.raises(UsageError, match="too few tools"):
        split_data([tmp_path / "a" / "all.jsonl"], tmp_path / "data", by="tool")
    write(tmp_path / "b", {"all": [note("drop 1", 1)]})
    (tmp_path / "b" / "tools.json").write_text(json.dumps(TOOLS[-1:]))
    with pytest.raises(UsageError, match="tools beside the files are different(?s:.*)b"):
        split_data([tmp_path / folder / "all.jsonl" for folder in "ab"], tmp_path / "data")


def test_lines_with_their_own_tools_need_none_beside(tmp_path):
    line: dict[str, Any] = {**json.loads(note("drop 1", 1)), "tools": TOOLS}
    (tmp_path / "all.jsonl").write_text(json.dumps(line) + "\r\n")
    split_data([tmp_path / "all.jsonl"], tmp_path / "data")
    assert json.loads((tmp_path / "data" / "train.jsonl").read_text()) == line
    assert not (tmp_path / "data" / "tools.json").exists()
