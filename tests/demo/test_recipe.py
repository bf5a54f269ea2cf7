"""What data the demo writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualtune_mlx.data import read_trajectories
from dualtune_mlx.demo import recipe
from tests.synthesis.test_requests import VISIBLE


def test_the_demo_trains_on_few_wordings_and_is_measured_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[str, int | None] = {}

    def generate(split: str, _count: int, *, max_wordings: int | None, **_: object) -> list[object]:
        used[split] = max_wordings
        return []

    monkeypatch.setattr(recipe, "generate_requests", generate)
    monkeypatch.setattr(recipe, "write_split", lambda *_: None)
    recipe.Recipe(wordings=7).write_data(tmp_path, VISIBLE)
    assert used == {"train": 7, "valid": None, "test": None}


def test_lines_that_are_learned_go_on_after_the_call_and_the_measured_ones_end_there(tmp_path: Path) -> None:
    recipe.Recipe(train=64, valid=32, test=32).write_data(tmp_path, VISIBLE)
    for split, ends in (("train", True), ("valid", True), ("test", False)):
        lines = read_trajectories(tmp_path / f"{split}.jsonl")
        assert any(message.role == "tool" for line in lines for message in line.messages) == ends
