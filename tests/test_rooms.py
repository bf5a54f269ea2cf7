"""The import rule: a room may import only the rooms above it (docs: the list of rooms)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = (
    "errors",
    "linux",
    "turns",
    "tools",
    "files",
    "schemas",
    "data",
    "hierarchy",
    "prompts",
    "adapters",
    "conversion",
    "kv",
    "models",
    "decoding",
    "bundle",
    "exchange",
    "assembling",
    "verifying",
    "usage",
    "stage",
    "stage_batch",
    "training",
    "events",
    "calling",
    "calling_together",
    "answering",
    "engine",
    "orchestration",
    "evaluation",
    "demo",
    "cli",
    "benchmarks",
    "__main__",
)
NARROWER = {"errors": set(), "tools": {"errors"}, "linux": set(), "conversion": {"errors", "files", "adapters"}}
"""Rooms that may import less than everything above them."""


def modules() -> list[tuple[str, Path]]:
    """(room, file) of every module, the package's own ``__init__`` left out: it only offers names."""
    package = ROOT / "dualtune_mlx"
    inside = [(p.relative_to(package).parts[0].removesuffix(".py"), p) for p in package.rglob("*.py")]
    beside = [(room, path) for room in ("conversion", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    return sorted((room, path) for room, path in inside + beside if room != "__init__")


def imported_rooms(source: str, inside: str = "") -> Iterator[str]:
    """The rooms a module imports, wherever in it the import stands; ``inside`` is the module's own room."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"dualtune_mlx.{inside}"]
        elif isinstance(node, ast.ImportFrom) and node.module == "dualtune_mlx":
            names = [f"dualtune_mlx.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "dualtune_mlx" and rest:
                yield rest.partition(".")[0]


@pytest.mark.parametrize(("room", "path"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_a_module_imports_only_rooms_above_its_own(room, path):
    allowed = NARROWER.get(room, set(ORDER[: ORDER.index(room)])) | {room}
    source = path.read_text(encoding="utf-8")
    imported = {"tools" if name[0].isupper() else name for name in imported_rooms(source, room)}
    assert imported <= allowed


def test_every_room_stands_in_the_list():
    assert {room for room, _ in modules()} == set(ORDER)


def test_the_plain_data_needs_no_model_library():
    for room in ("errors", "tools", "files"):
        source = (ROOT / "dualtune_mlx" / f"{room}.py").read_text(encoding="utf-8")
        imports = {a.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for a in node.names}
        assert not {name for name in imports if name.startswith(("mlx", "transformers", "torch"))}


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("from dualtune_mlx.engine import DualTune", ["engine"]),
        ("import dualtune_mlx.cli.main as m", ["cli"]),
        ("from dualtune_mlx import linux", ["linux"]),
        ("def f():\n    from dualtune_mlx.data.reading import x", ["data"]),
        ("if TYPE_CHECKING:\n    from dualtune_mlx.models import BaseModel", ["models"]),
        ("from .other import x", ["here"]),
        ("import json", []),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source, rooms):
    assert list(imported_rooms(source, "here")) == rooms
