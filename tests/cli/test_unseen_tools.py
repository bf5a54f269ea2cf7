"""Tools that no bundle was trained on, from the command line: the start bundle, and the fit of lexical evidence."""

from __future__ import annotations

import json
import shutil

import pytest

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Evidence
from tests.cli.conftest import dualtune

UNSEEN = [{"name": name, "description": f"{name.replace('_', ' ')}."} for name in ("delete_reminder", "play_song")]
pytestmark = pytest.mark.filterwarnings("ignore::dualtune_mlx.engine.trained_tools.ToolsWarning")


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "bundles" / "smollm2-135m")


@pytest.fixture
def tools(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(UNSEEN))
    return tmp_path / "tools.json"


def test_a_call_without_a_bundle_uses_the_start_bundle(copy, tools, model, monkeypatch):
    monkeypatch.setattr("dualtune_mlx.start.BUNDLES", copy.parent)
    Bundle.open(copy).set_evidence(Evidence(weight=9.0, sharpness=0.1))
    given = ["--tools", tools, "--model", model, "--json", copy.parent / "call.json"]
    result = dualtune("call", *given, "delete the reminder")
    assert result.exit_code == 0
    assert "`dualtune learn` would teach them" in " ".join(result.output.split())
    assert json.loads((copy.parent / "call.json").read_text())["name"] == "delete_reminder"


def test_without_a_start_bundle_it_is_said_what_is_missing(tools, tmp_path, monkeypatch):
    monkeypatch.setattr("dualtune_mlx.start.BUNDLES", tmp_path)
    result = dualtune("call", "--tools", tools, "--model", "some-model", "hello")
    assert result.exit_code == 2
    assert "no start bundle for the model" in result.stderr and "some-model" in result.stderr
    assert "--bundle" in result.stderr


def test_words_of_trained_tools_are_not_mentioned(copy, data):
    Bundle.open(copy).set_evidence(Evidence(weight=9.0))
    result = dualtune("call", "--bundle", copy, "--tools", data / "tools.json", "show a")
    assert result.exit_code == 0 and "never seen" not in result.output


def test_evidence_is_fitted_to_requests_for_unseen_tools_and_shown(copy, tmp_path):
    def line(request, name=""):
        call = [{"function": {"name": name, "arguments": {}}}] if name else []
        answer = {"role": "assistant", "tool_calls": call} if name else {"role": "assistant", "content": "Well."}
        return json.dumps({"messages": [{"role": "user", "content": request}, answer], "tools": UNSEEN})

    lines = [line("delete my reminder", "delete_reminder"), line("play a song", "play_song"), line("hello")]
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    result = dualtune("bundle", "evidence", "--bundle", copy, "--data", tmp_path / "requests.jsonl", "--json")
    value = json.loads(result.stdout)
    assert (result.exit_code, value["choices"]) == (0, 3)
    assert Bundle.open(copy).evidence == Evidence(**value["evidence"])
    assert "evidence  weight" in dualtune("bundle", "show", "--bundle", copy).output
    shown = json.loads(dualtune("bundle", "show", "--bundle", copy, "--json").stdout)
    assert shown["evidence"] == value["evidence"]


def test_words_are_learned_from_a_data_file_and_shown(copy, data, tmp_path):
    result = dualtune(
        "bundle", "words", "--bundle", copy, "--data", data / "train.jsonl", "--json", tmp_path / "w.json"
    )
    assert result.exit_code == 0 and "choices of a tool" in result.output
    value = json.loads((tmp_path / "w.json").read_text())
    assert value["choices"] == len(Bundle.open(copy).tools) + 1
    assert "words     learned" in dualtune("bundle", "show", "--bundle", copy).output
    assert dualtune("bundle", "verify", "--bundle", copy).exit_code == 0
    result = dualtune("call", "--bundle", copy, "--tools", data / "tools.json", "show a")
    assert result.exit_code == 0 and "never seen" not in result.output


def test_words_of_other_tools_are_refused(copy, tmp_path):
    call = [{"function": {"name": "play_song", "arguments": {}}}]
    line = {
        "messages": [{"role": "user", "content": "play"}, {"role": "assistant", "tool_calls": call}],
        "tools": UNSEEN,
    }
    (tmp_path / "requests.jsonl").write_text(json.dumps(line))
    result = dualtune("bundle", "words", "--bundle", copy, "--data", tmp_path / "requests.jsonl")
    assert result.exit_code == 1 and "the words are not for" in result.stderr and "play_song" in result.stderr
    assert Bundle.open(copy).words is None
