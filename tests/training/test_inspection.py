"""Inspected examples: every token with what training does to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualtune_mlx.errors import DataError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Tool
from dualtune_mlx.training.examples import stage_examples
from dualtune_mlx.training.inspection import find_stages, inspect_examples
from tests import tiny
from tests.training.data import TOOLS, divided, trajectories


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(Template("chatml"), tiny.tokenizer(), "name")


def test_an_example_is_the_one_that_training_makes(renderer):
    (made, *_) = stage_examples(trajectories(), renderer, "selector", "turn").examples
    (found,) = inspect_examples(trajectories(), renderer, stage="selector", limit=1)
    value = found.to_dict()
    assert (found.ids, found.active) == (made.tokens, made.active)
    assert "".join(found.tokens) == renderer.encoder.decode(list(made.tokens))
    assert sum(value["learned"]) == made.learned
    assert sum(value["active"]) == len(made.tokens) - made.active
    assert set(value) == {"stage", "tokens", "ids", "learned", "active"}


def test_the_kinds_stand_in_order(renderer):
    for example in inspect_examples(trajectories(), renderer, stage="arguments"):
        assert list(dict.fromkeys(example.kinds)) == ["prefix", "active", "learned"]
        assert example.kinds.index("active") == example.active


def test_a_card_of_parameters_is_active_and_never_learned(renderer):
    carded = PromptRenderer(Template("chatml"), tiny.tokenizer(), "name", "parameters")
    for stage in ("selector", "arguments"):
        plain, shown = (stage_examples(trajectories(), one, stage, "turn").examples for one in (renderer, carded))
        for before, after in zip(plain, shown, strict=True):
            assert after.learned == before.learned
            assert (len(after.tokens) > len(before.tokens)) is (stage == "arguments")
    (found,) = inspect_examples(trajectories(), carded, stage="arguments", limit=1)
    active = "".join(text for text, kind in zip(found.tokens, found.kinds, strict=True) if kind == "active")
    assert active.endswith("read\npath?: string\n")


def test_each_stage_has_at_most_as_many_examples_as_are_wanted(renderer):
    stages = [example.stage for example in inspect_examples(trajectories(), renderer, limit=2)]
    assert stages == [stage for stage in find_stages(trajectories()) for _ in range(2)]


def test_a_stage_without_examples_is_refused(renderer):
    with pytest.raises(DataError, match="planner"):
        list(inspect_examples(trajectories(), renderer, stage="planner"))


def with_tools(*tools: Tool) -> list:
    return [replace(one, tools=tools) for one in trajectories()]


@pytest.mark.parametrize(
    ("data", "stages"),
    [
        (trajectories(), ("router", "selector", "arguments")),
        (divided(), ("planner", "router", "selector", "arguments")),
        (with_tools(*TOOLS[:2]), ("selector", "arguments")),
        (with_tools(*TOOLS, Tool("free")), ("selector", "arguments")),
    ],
    ids=["two servers", "with parts", "one server", "a tool of no server"],
)
def test_the_stages_are_those_that_the_data_has_examples_for(data, stages):
    assert find_stages(data) == stages
