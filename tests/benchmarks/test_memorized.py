"""That a bundle makes the calls it memorized, among other tools and in other conversations too, or says so."""

from __future__ import annotations

from dataclasses import replace
from shutil import copytree

import pytest

from dualtune_mlx.benchmarks import memorized
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import TrainingError
from dualtune_mlx.tools import Tool
from tests.benchmarks.conftest import CALLS, TOOLS, learn


@pytest.mark.parametrize("activation", ["turn", "invocation"])
def test_the_calls_are_made(learned, activation):
    with DualTune.load(learned(activation)) as dualtune:
        for one in CALLS:
            made = dualtune.call(one.messages, TOOLS)
            memorized.check_call(made, one)
            assert made.confidence > 0.9
        assert {adapter.config.activation for adapter in dualtune.base.bank.resident} == {activation}


def test_adapters_that_are_added_change_no_call(model, learned, tmp_path):
    bundle = copytree(learned("turn"), tmp_path / "bundle")
    others = [Tool(f"other{n}", server="s") for n in range(3)]
    memorized.add_untrained_adapters(model, bundle, others[:1])
    memorized.add_untrained_adapters(model, bundle, others[1:])
    added = [entry.content_hash for (_, scope), entry in Bundle.open(bundle).stages.items() if scope]
    assert len(set(added)) == 3
    with DualTune.load(bundle) as dualtune:
        assert len(dualtune.base.bank.resident) == 5
        memorized.check_call(dualtune.call(CALLS[0].messages, TOOLS), CALLS[0])


def test_what_is_not_learned_is_said(model, tmp_path):
    with pytest.raises(TrainingError, match="selector could not learn") as caught:
        learn(model, tmp_path / "bundle", STEPS=1)
    assert "after 1 steps" in caught.value.got
    assert not (tmp_path / "bundle" / "dualtune.json").exists()


def test_another_call_is_not_timed():
    made = replace(CALLS[0].call, arguments={"path": "b.txt"})
    with pytest.raises(TrainingError, match="another call") as caught:
        memorized.check_call(made, CALLS[0])
    assert caught.value.where == "show a.txt"
    memorized.check_call(replace(made, arguments={"path": "a.txt"}, confidence=0.5), CALLS[0])
