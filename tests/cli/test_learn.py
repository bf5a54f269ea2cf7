"""``dualtune learn``: what it prints, and what it refuses."""

from __future__ import annotations

import json

import pytest

from dualtune_mlx.learning import options as learn_options
from dualtune_mlx.learning import road
from tests.cli.conftest import TOOLS, dualtune, line

pytest.importorskip("datasketch", reason="needs the extra synth")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(learn_options, "FROM_NOTHING", {"rank": 2, "alpha": 4.0, "batch_size": 4, "layers": "all"})
    monkeypatch.setattr(learn_options, "_length", lambda steps: {"steps": 2, "validate_every": 2})
    monkeypatch.setattr(road, "MOST_TOKENS", 24)


def test_a_bundle_is_learned_from_a_list_of_tools(model, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    where = ("--tools", tmp_path / "tools.json", "--bundle", tmp_path / "mine", "--model", model)
    result = dualtune("learn", *where, "--minutes", 1, "--requests", 30, "--json", tmp_path / "value.json")
    assert result.exit_code == 0, result.output
    for said in ("nothing leaves it", "$ dualtune data synthesize", "$ dualtune train selector", "before", "after"):
        assert said in result.output
    value = json.loads((tmp_path / "value.json").read_text())
    assert value["after"]["n"] and value["measured_on"] == "held out"
    assert (tmp_path / "mine/report.html").exists()


def test_requests_of_files_are_learned_too_and_a_wrong_file_is_named(model, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    where = ("--tools", tmp_path / "tools.json", "--bundle", tmp_path / "mine", "--model", model, "--requests", 30)
    for number in (1, 2):
        (tmp_path / f"{number}.jsonl").write_text(line(f"kindly show {number}", "read_file", path=str(number)))
    files = ("--more", tmp_path / "1.jsonl", "--more", tmp_path / "2.jsonl")
    result = dualtune("learn", *where, "--minutes", 1, *files)
    assert result.exit_code == 0, result.output
    assert "2 requests that you give are learned beside them" in result.output
    (tmp_path / "2.jsonl").write_text(line("kindly drop it", "drop_file"))
    refused = dualtune("learn", *where, *files)
    assert refused.exit_code == 1 and "2.jsonl:1" in refused.output


def test_what_makes_no_sense_is_refused(tmp_path):
    assert dualtune("learn", "--bundle", tmp_path).exit_code == 2
    refused = dualtune("learn", "--bundle", tmp_path, "--tools", "x.json", "--max-money", 5)
    assert refused.exit_code == 2 and "--teacher" in refused.output
