"""A bank over the tiny model, and a saved adapter of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualtune_mlx.adapters import AdapterBank
from tests.adapters.adapters import adapter_for, plain


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    return AdapterBank(plain())


@pytest.fixture
def saved(bank, tmp_path) -> Path:
    adapter_for(bank, 1).save(tmp_path / "adapter")
    return tmp_path / "adapter"
