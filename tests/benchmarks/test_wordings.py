"""The benchmark of requests that are made beside hand-written wordings, with a tiny model."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from dualtune_mlx.benchmarks import wordings
from dualtune_mlx.benchmarks.wordings import LEARNED, METHODS, Setting, make_report
from dualtune_mlx.data import read_trajectories
from dualtune_mlx.demo import Recipe
from dualtune_mlx.learning import options
from tests import tiny
from tests.cli.conftest import dualtune
from tests.synthesis.test_requests import server_tools

pytest.importorskip("datasketch", reason="needs the extra synth")
TIME = server_tools("time")
TINY = Setting(Recipe(train=20, valid=10, test=4), selector=2, arguments=2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(wordings, "EMBEDDED", str(tiny.save(tmp_path / "model")))
    monkeypatch.setattr(wordings, "QUICK", TINY)
    monkeypatch.setattr(wordings, "MOST_TOKENS", 8)
    monkeypatch.setattr(wordings, "demo_tools", lambda folder: TIME)
    monkeypatch.setattr(options, "FROM_NOTHING", {"rank": 2, "alpha": 4.0, "batch_size": 4, "layers": "all"})
    written = io.StringIO()

    def run():
        return wordings.run(True, Console(file=written, width=120), tmp_path / "work"), written.getvalue()

    return run


@pytest.mark.slow
def test_the_same_steps_on_each_source_are_measured_on_the_same_requests(run, tmp_path, monkeypatch):
    value, written = run()
    assert [row["method"] for row in value["rows"][:5]] == list(METHODS)
    assert {(row["server"], row["n"]) for row in value["rows"][:5]} == {("all", 4)}
    (work,) = [path for path in (tmp_path / "work").iterdir() if path.is_dir()]
    hand, made = (set((work / "data" / name).read_text().splitlines()) for name in ("written.jsonl", "requests.jsonl"))
    learned = {
        method: {line for split in ("train", "valid") for line in (work / method / "data" / f"{split}.jsonl").open()}
        for method in LEARNED
    }
    assert {method: {line.rstrip("\n") for line in lines} for method, lines in learned.items()} == {
        "written": hand,
        "made": made,
        "both": hand | made,
    }
    assert all(len(read_trajectories(work / method / "data/valid.jsonl")) for method in LEARNED)
    assert "points that made requests are missing beside hand-written ones: tool " in written
    monkeypatch.setattr(wordings, "learn", None)
    monkeypatch.setattr(wordings, "load", None)
    assert run()[0]["rows"] == value["rows"], "nothing is learned or measured again"


def test_it_says_how_many_points_are_missing():
    def known(right: int) -> dict[str, object]:
        gold = {"server": "git", "name": "log", "arguments": {}}
        wrong = {**gold, "name": "diff"}
        examples = [{"gold": gold, "predicted": gold if number < right else wrong} for number in range(10)]
        return {"report": {"examples": examples}, "seconds": 1.0}

    value = make_report(dict(zip(METHODS, map(known, (1, 3, 9, 7, 8)), strict=True)), TINY)
    assert value["counters"]["points_missing"] == pytest.approx({"tool": 20, "call": 20})
    assert value["ratios"]["tool_vs_written"]["median"] == pytest.approx(7 / 9)
    assert [(row["server"], row["tool"]) for row in value["rows"]] == [
        (server, right / 10) for server in ("all", "git") for right in (1, 3, 9, 7, 8)
    ]


def test_it_needs_a_folder_to_work_in():
    assert "needs --work" in dualtune("bench", "wordings").output


def test_the_script_is_the_command():
    assert 'common.main("wordings")' in Path(wordings.__file__).read_text(encoding="utf-8")
