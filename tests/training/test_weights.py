"""Messages of weight 0: in no stage a target, in every later example context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from dualtune_mlx.data import write_split, write_tools
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.decoding import learn_grounding
from dualtune_mlx.errors import DataError
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, ToolCall, Trajectory
from dualtune_mlx.training import STAGES, estimate_training, merge_config
from dualtune_mlx.training.examples import is_divided, stage_examples
from dualtune_mlx.training.inspection import inspect_examples
from dualtune_mlx.training.jobs import all_jobs
from tests import tiny
from tests.training.data import TOOLS, divided

WRONG = ToolCall("read", {"path": "wrong"}, "fs")
RIGHT = ToolCall("list", {"path": "right"}, "fs")


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(Template("chatml"), tiny.tokenizer(), "name")


def conversation(wrong: int = 0, right: int = 1) -> Trajectory:
    """A wrong call and the right one, each for a part of its request and of a weight."""
    messages = (
        Message("user", "read, then list", subtasks=("read", "list")),
        Message("assistant", "", (WRONG,), subtask="read", weight=wrong),
        Message("tool", "no such file"),
        Message("assistant", "", (RIGHT,), subtask="list", weight=right),
    )
    return Trajectory(messages, TOOLS)


def learned_texts(renderer: PromptRenderer, trajectories: Iterable[Trajectory], stage: str) -> list[str]:
    found = stage_examples(list(trajectories), renderer, stage, "turn", hierarchical=True).examples
    return [
        renderer.encoder.decode(list(example.tokens[target.start : target.end]))
        for example in found
        for target in example.targets
    ]


@pytest.mark.parametrize("stage", ["router", "selector", "arguments"])
def test_a_call_of_weight_0_is_no_target_and_stays_as_context(renderer, stage):
    both, one = (learned_texts(renderer, [conversation(weight, 1)], stage) for weight in (1, 0))
    assert one == both[1:]  # the first call alone is gone
    last = stage_examples([conversation()], renderer, stage, "turn").examples[-1]
    assert "wrong" in renderer.encoder.decode(list(last.tokens))


def test_a_plan_is_learned_with_any_call_of_its_request(renderer):
    assert len(learned_texts(renderer, [conversation(0, 1)], "planner")) == 1
    assert is_divided(conversation(0, 1))
    assert not is_divided(conversation(0, 0))


@pytest.mark.parametrize("stage", STAGES)
def test_a_line_of_weight_0_has_no_example(renderer, stage):
    with pytest.raises(DataError, match="no example"):
        learned_texts(renderer, [conversation(0, 0)], stage)


def test_inspected_tokens_of_weight_0_are_not_learned(renderer):
    (example,) = inspect_examples([conversation()], renderer, stage="arguments")
    learned = "".join(text for text, kind in zip(example.tokens, example.kinds, strict=True) if kind == "learned")
    assert "right" in learned
    assert "wrong" not in learned
    assert "wrong" in "".join(example.tokens)


def test_calls_of_weight_0_give_no_tool_an_adapter_and_ground_nothing():
    scopes = [job.scope for job in all_jobs([conversation()], 1)]
    assert ("fs/list" in scopes, "fs/read" in scopes) == (True, False)
    told = replace(conversation(), messages=(Message("user", "read wrong"), *conversation().messages[1:]))
    decisions = [decision for _ in range(10) for decision in call_decisions(told)]
    assert learn_grounding(decisions) == {}


def test_the_estimate_counts_what_is_learned(tmp_path):
    tiny.save(tmp_path / "model")
    unlearned = [replace(one, messages=tuple(replace(m, weight=0) for m in one.messages)) for one in divided(3)]
    write_split(tmp_path / "data", "train", [*divided(6), *unlearned])
    write_split(tmp_path / "data", "valid", divided(3))
    write_tools(tmp_path / "data", TOOLS)
    where = {"model": str(tmp_path / "model"), "data": str(tmp_path / "data"), "bundle": "none"}
    estimates = estimate_training(merge_config(None, {**where, "steps": 1, "batch_size": 1, "cards": "name"}))
    write_split(tmp_path / "data", "train", divided(6))
    alone = estimate_training(merge_config(None, {**where, "steps": 1, "batch_size": 1, "cards": "name"}))
    assert [one.examples for one in estimates] == [one.examples for one in alone]
