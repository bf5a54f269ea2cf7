"""A bundle whose arguments are written with the tool's parameters in view, from training to a call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualtune_mlx.bundle import Bundle
from tests.cli.conftest import SMALL, dualtune

DUE = {"type": "string", "format": "date"}
REMIND = {
    "name": "remind",
    "server": "diary",
    "inputSchema": {"type": "object", "properties": {"due": DUE}, "required": ["due"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dated")
    function = {"name": "remind", "arguments": {"due": "2026-12-01"}}
    messages = [{"role": "user", "content": "tomorrow"}, {"role": "assistant", "tool_calls": [{"function": function}]}]
    for split in ("train", "valid"):
        line = json.dumps({"messages": messages, "tools": [REMIND], "today": "2026-11-30"})
        (folder / f"{split}.jsonl").write_text(f"{line}\n{line}\n")
    (folder / "tools.json").write_text(json.dumps([REMIND]))
    return folder


@pytest.fixture(scope="module")
def bundle(model, data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "carded"
    for stage in ("selector", "arguments"):
        given = ("--model", model, "--data", data, "--bundle", folder, "--argument-card", "parameters", *SMALL)
        assert dualtune("train", stage, *given).exit_code == 0
    return folder


def printed(*arguments: object) -> Any:
    result = dualtune(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_bundle_knows_its_card_and_refuses_another(model, data, bundle):
    assert Bundle.open(bundle).argument_card == "parameters"
    assert "argument card: parameters" in dualtune("bundle", "show", "--bundle", bundle).stdout
    assert dualtune("bundle", "verify", "--bundle", bundle).exit_code == 0
    again = dualtune("train", "arguments", "--model", model, "--data", data, "--bundle", bundle, *SMALL)
    assert again.exit_code == 1
    assert "another kind of argument card" in again.output


def test_a_bundle_of_before_has_none_and_is_written_as_before(bundle):
    opened = Bundle.open(bundle)
    value = opened.to_dict()
    del value["prompt"]["argument_card"]
    before = Bundle._from_dict(bundle, value)
    assert before.argument_card == "none"
    assert before.to_dict() == value


def test_a_card_of_a_later_version_is_refused(data, bundle, tmp_path):
    value = Bundle.open(bundle).to_dict()
    value["prompt"]["argument_card"] = "hologram"
    (tmp_path / "dualtune.json").write_text(json.dumps(value))
    result = dualtune("call", "--bundle", tmp_path, "--tools", data / "tools.json", "hi")
    assert result.exit_code == 1
    assert "hologram" in result.output


def test_inspect_and_plan_know_it(model, data):
    card = ("--argument-card", "parameters")
    (shown, _) = printed("inspect", "--model", model, "--data", data / "train.jsonl", "--stage", "arguments", *card)
    assert "due: date\nToday: Monday, 2026-11-30\n" in "".join(shown["tokens"])
    plan = ("plan", "--model", model, "--data", data, *SMALL)
    assert [stage["stage"] for stage in printed(*plan, *card)] == ["selector", "arguments"]


def test_eval_call_and_warm_work_with_it(model, data, bundle):
    assert printed("eval", "--bundle", bundle, "--data", data / "valid.jsonl")["n"] == 2
    base = printed("eval", "--base", "--model", model, "--data", data / "valid.jsonl", "--argument-card", "parameters")
    assert base["n"] == 2
    assert printed("warm", "--bundle", bundle)["prefixes"]
    call = printed("call", "--bundle", bundle, "--tools", data / "tools.json", "--today", "2026-11-30", "tomorrow")
    assert call["name"] in ("remind", "respond")


def test_a_date_is_refused_where_it_is_none_or_nobody_is_told(model, data, bundle, tmp_path):
    plain = tmp_path / "plain"
    assert dualtune("train", "selector", "--model", model, "--data", data, "--bundle", plain, *SMALL).exit_code == 0
    for folder, today, says in ((bundle, "30.11.", "a date is not one"), (plain, "2026-11-30", "tell none")):
        given = ("call", "--bundle", folder, "--tools", data / "tools.json", "--today", today, "tomorrow")
        result = dualtune(*given)
        assert result.exit_code == 2
        assert says in result.output


def test_assemble_takes_the_card_that_the_adapters_were_trained_with(model, data, bundle, tmp_path):
    adapter = bundle / Bundle.open(bundle).stages["arguments", ""].path
    given = ("--model", model, "--tools", data / "tools.json", "--arguments", f"*={adapter}")
    folder = tmp_path / "assembled"
    result = dualtune("bundle", "assemble", "--bundle", folder, *given, "--argument-card", "parameters")
    assert result.exit_code == 0, result.output
    assert Bundle.open(folder).argument_card == "parameters"
