"""Decisions that are not learned are counted by reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualtune_mlx.training.left_out import count_left_out, describe_left_out
from tests.training.data import divided, trajectories

WEIGHTLESS = [replace(one, messages=tuple(replace(m, weight=0) for m in one.messages)) for one in divided(3)]


@pytest.mark.parametrize(
    ("stage", "scope", "data", "counts"),
    [
        ("selector", "", trajectories(6), {}),
        ("arguments", "", trajectories(6), {"of tools without parameters": 2}),
        ("arguments", "fs", trajectories(6), {}),
        ("arguments", "clock", trajectories(6), {"of tools without parameters": 2}),
        ("planner", "", [*divided(3), *WEIGHTLESS], {"of weight 0": 3}),
        ("arguments", "", [*divided(3), *WEIGHTLESS], {"of weight 0": 6}),
        ("arguments", "fs/read", [*trajectories(3), *WEIGHTLESS], {"of weight 0": 3}),
        ("selector", "", WEIGHTLESS, {"of weight 0": 11}),  # 6 calls, 3 answers, 2 ends of parts
    ],
)
def test_every_decision_that_is_not_learned_is_counted(stage, scope, data, counts):
    assert count_left_out(data, stage, scope) == counts


def test_the_counts_are_told_in_words():
    assert describe_left_out({}) == ""
    assert describe_left_out({"of weight 0": 1200, "of a kind": 1}) == "left out: 1,200 of weight 0, 1 of a kind"
