"""Every error of the package says what should be there, or what to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dualtune_mlx import errors

ROOT = Path(__file__).parents[1]
ERRORS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.DualTuneError)}
FILES = sorted(file for room in ("dualtune_mlx", "conversion", "benchmarks") for file in (ROOT / room).rglob("*.py"))


def find_dead_ends(source: str) -> list[int]:
    """The lines with an error that has neither ``expected`` nor ``fix``."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ERRORS]
    return [call.lineno for call in made if not {"expected", "fix"} & {word.arg for word in call.keywords}]


def test_dead_ends_are_found():
    assert find_dead_ends("raise DataError('a line is wrong', where=1)\nraise DataError('x', fix='y')") == [1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_error_has_a_way_out(file):
    assert find_dead_ends(file.read_text(encoding="utf-8")) == []
