"""What `call`, `agent` and `inspect` say of tools that the bundle was not trained on."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext

import pytest

from dualtune_mlx.cli import agent as agent_command
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.changes import ToolChanges
from tests.agent.fakes import Engine
from tests.cli.conftest import TOOLS, dualtune, line
from tests.cli.test_agent import GOOD

RENAMED = [{**TOOLS[0], "name": "cat_file"}, *TOOLS[1:]]
SAID = "never trained: fs/cat_file; gone: fs/read_file"
TOLD = {
    "untrained": [{"server": "fs", "name": "cat_file"}],
    "changed": [],
    "gone": [{"server": "fs", "name": "read_file"}],
}


@pytest.fixture
def renamed(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(RENAMED))
    (tmp_path / "data.jsonl").write_text(line("list b", "list_dir", path="b"))
    return tmp_path


@pytest.mark.filterwarnings("error")
def test_call_says_in_a_line_and_in_json_which_tools_the_bundle_does_not_know(bundle, data, renamed):
    shown = dualtune("call", "--bundle", bundle, "--tools", renamed / "tools.json", "show a")
    assert SAID in shown.stdout
    result = dualtune("call", "--bundle", bundle, "--tools", renamed / "tools.json", "--json", "show a")
    assert json.loads(result.stdout)["tool_changes"] == TOLD
    assert result.stderr.count(SAID) == 1, "once: no warning says it again"
    known = dualtune("call", "--bundle", bundle, "--tools", data / "tools.json", "show a")
    assert "training" not in known.stdout


def test_inspect_compares_the_tools_of_data_with_a_bundle_and_reads_it_as_the_bundle_does(bundle, renamed, model):
    command = ["inspect", "--bundle", bundle, "--data", renamed / "data.jsonl", "--stage", "selector"]
    assert SAID in dualtune(*command).stdout
    (value,) = json.loads(dualtune(*command, "--json").stdout)
    assert value["tool_changes"] == TOLD
    plain = ["inspect", "--model", model, "--data", renamed / "data.jsonl", "--stage", "selector", "--json"]
    assert json.loads(dualtune(*plain).stdout)[0]["ids"] == value["ids"]
    refused = dualtune(*command, "--cards", "name")
    assert (refused.exit_code, "does not go with '--bundle'" in refused.stderr) == (2, True)


def test_inspect_without_colour_marks_tokens_with_characters(model, data):
    command = ["inspect", "--model", model, "--data", data / "test.jsonl", "--stage", "selector", "--limit", "1"]
    shown = dualtune(*command).stdout
    assert "⟨ context ⟩ ⟪ active ⟫ ⟦ learned ⟧" in shown
    assert "show a<|im_end|>\n<|im_start|>assistant\n⟫⟦read_file\n⟧" in shown
    assert "\x1b" not in shown


def test_agent_says_it_before_the_first_event(monkeypatch, tmp_path):
    engine = Engine()
    engine.changes = ToolChanges(untrained=(Tool("cat_file", server="fs"),), gone=(Tool("read_file", server="fs"),))
    monkeypatch.setattr(agent_command.DualTune, "load", lambda *_, **__: nullcontext(engine))
    entry = {"command": sys.executable, "args": [str(GOOD)]}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"good": entry}}))
    where = ["--bundle", tmp_path / "b", "--mcp", tmp_path / "mcp.json", "--transcripts", tmp_path / "t"]
    result = dualtune("agent", *where, "--json", "do it")
    assert SAID in result.stderr
    assert json.loads(result.stdout)[0] == {"event": "tool_changes", **TOLD}
