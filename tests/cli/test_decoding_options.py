"""The options of decoding on the command line: each takes effect, or is refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from dualtune_mlx.data import read_tools
from dualtune_mlx.mcp import ToolResult
from tests.cli.conftest import dualtune


def call(bundle, data, *options: object) -> dict:
    result = dualtune("call", "--bundle", bundle, "--tools", data / "tools.json", "--json", "-", *options, "show a")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_call_ranks_as_many_candidates_as_asked_for(data, bundle):
    assert [len(call(bundle, data, "--top-k", n)["candidates"]) for n in (1, 4)] == [1, 4]


def test_a_call_below_the_threshold_is_none_and_no_failure(data, bundle):
    made = call(bundle, data)
    value = call(bundle, data, "--abstain", "1")
    assert (value["server"], value["name"], value["arguments"]) == (None, None, {})
    assert value["confidence"] == pytest.approx(made["confidence"])
    assert [c["name"] for c in value["candidates"]] == [c["name"] for c in made["candidates"]]
    result = dualtune("call", "--bundle", bundle, "--tools", data / "tools.json", "--abstain", "1", "show a")
    assert result.exit_code == 0
    assert "no call" in result.stdout
    assert made["name"] in result.stdout
    assert "→" not in result.stdout


@pytest.mark.parametrize(("abstain", "executed"), [("0", 1), ("1", 0)])
def test_no_call_is_not_executed(data, bundle, monkeypatch, abstain, executed):
    made = []

    def execute(call):
        made.append(call)
        return ToolResult(call.server, call.name, (), "done", None, False, 0.0)

    toolbox = SimpleNamespace(tools=read_tools(data / "tools.json"), execute=execute)
    monkeypatch.setattr("dualtune_mlx.cli.call.connect", lambda config: nullcontext(toolbox))
    monkeypatch.setattr("dualtune_mlx.cli.call.read_config", lambda path: None)
    result = dualtune("call", "--bundle", bundle, "--mcp", "x", "--execute", "--abstain", abstain, "show a")
    assert result.exit_code == 0, result.output
    assert len(made) == executed


@pytest.mark.parametrize(
    ("option", "value"), [("--abstain", "1.5"), ("--temperature", "-1"), ("--top-k", "0"), ("--grounding", "maybe")]
)
def test_an_option_out_of_range_is_a_wrong_call(data, bundle, option, value):
    result = dualtune("call", "--bundle", bundle, "--tools", data / "tools.json", option, value, "show a")
    assert result.exit_code == 2
    assert option in result.output


def test_options_reach_the_engine(data, bundle, monkeypatch):
    from dualtune_mlx.decoding import Decoding
    from dualtune_mlx.engine import DualTune

    seen = []
    load = DualTune.load.__func__

    def watched(cls, *arguments, decoding=None, **options):
        seen.append(decoding)
        return load(cls, *arguments, decoding=decoding, **options)

    monkeypatch.setattr(DualTune, "load", classmethod(watched))
    call(bundle, data, "--temperature", "0.5", "--seed", "7", "--grounding", "off", "--max-tokens", "99")
    where = ["--bundle", bundle, "--data", data / "test.jsonl"]
    assert dualtune("eval", *where, "--grounding", "auto").exit_code == 0
    assert seen == [Decoding(99, 0.5, 7, grounding="off"), Decoding(grounding="auto")]
