"""What data the demo learns from and is measured on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualtune_mlx.data import write_split
from dualtune_mlx.demo import Recipe, recipe
from dualtune_mlx.learning.more import read_more
from tests.synthesis.test_requests import VISIBLE


def test_the_demo_learns_few_wordings_and_is_measured_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, int | None] = {}

    def generate(split: str, _count: int, *, max_wordings: int | None = None, **_: object) -> list[object]:
        used[split] = max_wordings
        return []

    monkeypatch.setattr(recipe, "generate_requests", generate)
    chosen = Recipe(wordings=7)
    assert chosen.learned(VISIBLE) == chosen.measured(VISIBLE) == []
    assert used == {"train": 7, "valid": None, "test": None}


def test_some_requests_that_are_learned_go_on_after_the_call_and_the_measured_ones_end_there() -> None:
    chosen = Recipe(train=64, valid=32, test=32)
    for requests, ends in ((chosen.learned(VISIBLE), True), (chosen.measured(VISIBLE), False)):
        assert any(message.role == "tool" for one in requests for message in one.messages) == ends
    assert (len(chosen.learned(VISIBLE)), len(chosen.measured(VISIBLE))) == (96, 32)


def test_nothing_that_is_measured_is_learned(tmp_path: Path) -> None:
    chosen = Recipe()
    write_split(tmp_path, "wordings", chosen.learned(VISIBLE))
    lines = read_more([tmp_path / "wordings.jsonl"], VISIBLE, chosen.measured(VISIBLE))
    assert len(lines) == chosen.train + chosen.valid


def test_another_recipe_has_another_key() -> None:
    assert Recipe().key == Recipe().key != Recipe(minutes=1).key
    assert json.dumps([Recipe(minutes=7, made=3, seed=2).options.of_data, Recipe(minutes=7).options.minutes]) == (
        '[{"requests": 3, "seed": 2}, 7]'
    )
