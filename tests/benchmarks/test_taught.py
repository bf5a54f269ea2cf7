"""That a bundle makes the calls it was taught, among other tools and in other conversations too, or says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualtune_mlx.benchmarks import taught
from dualtune_mlx.benchmarks.taught import Asked
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import TrainingError
from dualtune_mlx.tools import Tool, ToolCall
from tests import tiny

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = tuple(Tool(name, "", SCHEMA, "files") for name in ("list", "read"))
ASKED = (
    Asked("show a.txt", ToolCall("read", {"path": "a.txt"})),
    Asked("what is in b", ToolCall("list", {"path": "b"})),
)
TINY = {"LEARNING_RATE": 1e-2, "ENOUGH": 1.1}
"""For the tiny model, whose loss has a floor of 1: no logit of its normed states is larger than 6."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("taught") / "model"))


def learn(model: str, folder: Path, activation: str = "turn", **changes: object) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**TINY, **changes}.items():
            patch.setattr(taught, name, value)
        taught.teach(model, "name", ASKED, TOOLS, activation, folder)
    return folder


@pytest.mark.parametrize("activation", ["turn", "invocation"])
def test_the_calls_are_made(model, tmp_path, activation):
    bundle = learn(model, tmp_path, activation)
    with DualTune.load(bundle) as dualtune:
        for one in ASKED:
            made = dualtune.call(one.messages, TOOLS)
            taught.check(made, one)
            assert made.confidence > 0.9
        assert {adapter.config.activation for adapter in dualtune.base.bank.resident} == {activation}


def test_adapters_that_are_added_change_no_call(model, tmp_path):
    bundle = learn(model, tmp_path / "bundle")
    others = [Tool(f"other{n}", server="s") for n in range(3)]
    taught.add_fresh(model, bundle, others[:1])
    taught.add_fresh(model, bundle, others[1:])
    added = [slot.content for (_, scope), slot in Bundle.open(bundle).stages.items() if scope]
    assert len(set(added)) == 3
    with DualTune.load(bundle) as dualtune:
        assert len(dualtune.base.bank.resident) == 5
        taught.check(dualtune.call(ASKED[0].messages, TOOLS), ASKED[0])


def test_what_is_not_learned_is_said(model, tmp_path):
    with pytest.raises(TrainingError, match="selector could not learn") as caught:
        learn(model, tmp_path / "bundle", STEPS=1)
    assert "after 1 steps" in caught.value.got
    assert not (tmp_path / "bundle" / "dualtune.json").exists()


def test_another_call_is_not_timed():
    made = replace(ASKED[0].call, arguments={"path": "b.txt"})
    with pytest.raises(TrainingError, match="another call") as caught:
        taught.check(made, ASKED[0])
    assert caught.value.where == "show a.txt"
    taught.check(replace(made, arguments={"path": "a.txt"}, confidence=0.5), ASKED[0])
