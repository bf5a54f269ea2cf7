"""What data the demo writes."""

from __future__ import annotations

from pathlib import Path

import pytest

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
