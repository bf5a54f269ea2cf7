"""``dualtune data check``: what it prints, its JSON, its exit codes, and what it takes out."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import dualtune
from tests.data.checking.planted import write_clean, write_planted

FEW = {"train": 30, "valid": 6, "test": 6}


def test_clean_data_passes(tmp_path):
    write_clean(tmp_path, FEW)
    result = dualtune("data", "check", tmp_path)
    assert result.exit_code == 0, result.output
    assert "nothing is wrong" in result.output and "train 30, valid 6, test 6" in result.output


@pytest.mark.parametrize("order", ["before", "behind"])
def test_faults_are_shown_by_kind_and_all_of_them_are_in_the_json(tmp_path, order):
    planted = write_planted(tmp_path, 60)
    result = dualtune("data", "check", *(["--json", tmp_path] if order == "before" else [tmp_path, "--json"]))
    assert result.exit_code == 1
    value = json.loads(result.stdout)
    assert {(one["file"], one["line"], one["kind"]) for one in value["findings"]} == planted
    assert value["errors"] + value["warnings"] == len(planted)
    assert value["kinds"]["json"] == {"title": "no JSON", "error": True, "count": 2}
    shown = dualtune("data", "check", tmp_path).output
    assert "no JSON" in shown and "fix: " in shown and f"{value['errors']} errors" in shown


def test_fix_says_what_it_took_out_and_where_it_is(tmp_path):
    write_clean(tmp_path, FEW)
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write("{\n")
    result = dualtune("data", "check", tmp_path, "--fix")
    assert result.exit_code == 0, result.output
    assert "removed from train.jsonl: no JSON 1" in result.output and "train.removed.jsonl" in result.output
    (gone,) = map(json.loads, (tmp_path / "train.removed.jsonl").read_text().splitlines())
    assert (gone["line"], gone["reason"], gone["text"]) == (31, "json", "{")


def test_lengths_are_in_a_model_s_tokens_where_one_is_named(tmp_path, model):
    write_clean(tmp_path, FEW)
    value = json.loads(dualtune("data", "check", tmp_path, "--model", model, "--json").stdout)
    assert value["length"]["unit"] == f"tokens of {model}"
    assert value["errors"] == 0
