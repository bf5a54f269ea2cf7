from __future__ import annotations

import json
import shutil

import pytest

from tests.adapters.adapters import adapter_for
from tests.cli.conftest import dualtune


def test_show_says_what_is_there(bundle, model):
    result = dualtune("bundle", "show", "--bundle", bundle)
    assert result.exit_code == 0
    for words in (str(model)[:20], "chatml", "read_file", "selector", "arguments", "turn"):
        assert words in result.output


def test_show_as_json(bundle):
    value = json.loads(dualtune("bundle", "show", "--bundle", bundle, "--json").stdout)
    assert {(row["stage"], row["scope"]) for row in value["adapters"]} == {("selector", ""), ("arguments", "")}
    assert all(row["rank"] == 2 and row["bytes"] > 0 and row["template"] == "chatml" for row in value["adapters"])
    assert [tool["function"]["name"] for tool in value["tools"]] == ["read_file", "list_dir", "now"]


def test_verify_finds_nothing_in_a_sound_bundle(bundle):
    result = dualtune("bundle", "verify", "--bundle", bundle, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"bundle": str(bundle), "problems": []}


def test_verify_names_what_is_wrong_and_exits_with_1(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    shutil.rmtree(copy / "selector")
    result = dualtune("bundle", "verify", "--bundle", copy, "--json", tmp_path / "problems.json")
    assert result.exit_code == 1
    assert "selector: " in result.stdout
    assert [one["part"] for one in json.loads((tmp_path / "problems.json").read_text())["problems"]] == ["selector"]


@pytest.fixture
def adapter(tmp_path):
    from tests import tiny

    adapter_for(tiny.model().bank, 1).save(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_assemble_then_call(model, data, adapter, tmp_path):
    to = tmp_path / "assembled"
    given = ["--model", model, "--tools", data / "tools.json", "--selector-template", "agentflux-selector"]
    made = dualtune("bundle", "assemble", "--bundle", to, *given, "--selector", adapter, "--arguments", f"*={adapter}")
    assert (made.exit_code, made.stderr) == (0, "")
    assert dualtune("bundle", "verify", "--bundle", to).exit_code == 0
    call = json.loads(dualtune("call", "--bundle", to, "--tools", data / "tools.json", "--json", "show a").stdout)
    assert call["name"] in ("read_file", "list_dir", "now", "respond")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "no adapters"),
        (("--arguments", "read_file"), 2, "is not SCOPE=ADAPTER"),
        (("--arguments", "fs/nothing={adapter}"), 2, "fs/nothing"),
        (("--arguments", "*={adapter}", "--selector-template", "chatml"), 2, "goes with '--selector' only"),
        (("--selector", "{adapter}", "--arguments-template", "chatml"), 2, "goes with '--arguments' only"),
        (("--selector", "{adapter}", "--template", "nowhere.jinja"), 1, "nowhere.jinja"),
        (("--selector", "{adapter}/nowhere"), 1, "nowhere"),
    ],
)
def test_assemble_says_what_is_wrong_and_writes_nothing(model, data, adapter, tmp_path, arguments, code, words):
    given = [argument.format(adapter=adapter) for argument in arguments]
    to = tmp_path / "assembled"
    result = dualtune("bundle", "assemble", "--bundle", to, "--model", model, "--tools", data / "tools.json", *given)
    assert result.exit_code == code
    assert words in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
