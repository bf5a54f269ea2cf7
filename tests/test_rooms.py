"""The import rule: a room may import only the rooms above it in the list of ``docs/import_graph.py``."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GRAPH = runpy.run_path(str(ROOT / "docs" / "import_graph.py"))
ORDER = [GRAPH["room_name"](room) for room in GRAPH["ROOMS"]]
NARROWER = {
    "errors": set(),
    "linux": set(),
    "tools": {"errors"},
    "conversion": {"errors", "files", "adapters"},
    "grammar": {"errors", "tools"},
    "mcp": {"errors", "addresses", "files", "tools", "grammar", "data"},
}
"""Rooms that may import less than everything above them."""


@pytest.mark.parametrize(("room", "path"), GRAPH["list_modules"](), ids=lambda value: getattr(value, "stem", value))
def test_a_module_imports_only_rooms_above_its_own(room, path):
    allowed = NARROWER.get(room, set(ORDER[: ORDER.index(room)])) | {room}
    assert set(GRAPH["find_imports"](path.read_text(encoding="utf-8"), room)) <= allowed


def test_every_room_stands_in_the_list():
    assert {room for room, _ in GRAPH["list_modules"]()} == set(ORDER)


def test_contributing_has_the_list():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert GRAPH["replace_list"](text) == text, "python docs/import_graph.py --write"


def test_there_is_no_circle_and_no_upward_arrow():
    lines = GRAPH["describe_graph"](ROOT).splitlines()
    assert "circles 0" in lines
    assert "upward arrows 0" in lines


@pytest.mark.parametrize(
    ("graph", "circles"),
    [
        ({"a": {"b"}, "b": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [{"a", "b"}]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [{"a", "b", "c"}]),
    ],
)
def test_circles_are_found(graph, circles):
    assert GRAPH["find_circles"](graph) == circles


@pytest.mark.parametrize("room", ["tools", "grammar", "errors", "files", "mcp"])
def test_what_holds_no_model_imports_no_model_library(room):
    code = f"import sys, dualtune_mlx.{room}; assert not {{'mlx.core', 'transformers', 'torch'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("from dualtune_mlx.engine import DualTune", ["engine"]),
        ("from dualtune_mlx import DualTune", ["engine"]),
        ("from dualtune_mlx import Tool", ["tools"]),
        ("import dualtune_mlx.cli.main as m", ["cli"]),
        ("from dualtune_mlx import linux", ["linux"]),
        ("def f():\n    from dualtune_mlx.data.reading import x", ["data"]),
        ("if TYPE_CHECKING:\n    from dualtune_mlx.models import BaseModel", ["models"]),
        ("from .other import x", ["here"]),
        ("import json", []),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source, rooms):
    assert list(GRAPH["find_imports"](source, "here")) == rooms
