"""A tiny model, and bundles that know two calls: learned once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest

from dualtune_mlx.benchmarks import memorized, processes
from dualtune_mlx.benchmarks.memorized import KnownCall
from dualtune_mlx.tools import Tool, ToolCall
from tests import tiny

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOLS = tuple(Tool(name, "", SCHEMA, "files") for name in ("list", "read"))
CALLS = (
    KnownCall("show a.txt", ToolCall("read", {"path": "a.txt"})),
    KnownCall("what is in b", ToolCall("list", {"path": "b"})),
)
TINY = {"LEARNING_RATE": 1e-2, "MEMORIZED_LOSS": 1.1}
"""For the tiny model, whose loss has a floor of 1: no logit of its normed states is larger than 6."""


def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rounds be measured in this process."""
    monkeypatch.setattr(processes, "isolated_rounds", lambda begin, name: nullcontext(begin()))


def learn(model: str, folder: Path, activation: str = "turn", **changes: object) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**TINY, **changes}.items():
            patch.setattr(memorized, name, value)
        memorized.memorize(model, "name", calls=CALLS, tools=TOOLS, activation=activation, folder=folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("memorized") / "model"))


@pytest.fixture(scope="session")
def learned(model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle that knows the calls, by its activation; who would change it copies it."""
    return cache(lambda activation: learn(model, tmp_path_factory.mktemp("learned") / "bundle", activation))
