"""A scratch copy: servers see it in place of the folder, and nothing is written to the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp import ServerConfig
from dualtune_mlx.mcp.rules import Rule
from dualtune_mlx.mcp.scratch import copy_folder


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "a.txt").write_text("a")
    (tmp_path / "notes" / "deep" / "b.txt").write_text("b")
    (tmp_path / "outside.txt").write_text("outside")
    (tmp_path / "notes" / "link").symlink_to(tmp_path / "outside.txt")
    return tmp_path / "notes"


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_is_restored_and_removed_and_has_no_links(folder):
    with copy_folder(folder) as scratch:
        assert files(scratch.copy) == {"a.txt": "a", "deep/b.txt": "b"}
        (scratch.copy / "a.txt").write_text("changed")
        (scratch.copy / "new").mkdir()
        (scratch.copy / "new" / "c.txt").write_text("c")
        (scratch.copy / "deep" / "b.txt").unlink()
        (scratch.copy / "way_out").symlink_to(folder)
        scratch.restore()
        assert files(scratch.copy) == {"a.txt": "a", "deep/b.txt": "b"}
    assert not scratch.copy.exists()
    assert files(folder) == {"a.txt": "a", "deep/b.txt": "b", "link": "outside"}


def test_configurations_name_the_copy_wherever_they_named_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    config = ServerConfig(
        "fs",
        "server",
        (str(folder), f"--root={folder}/deep", "notes", "notes2", f"{folder}-old", "stdio"),
        {"ROOT": str(folder), "KEY": "secret"},
        "notes",
        {"repo": str(folder), "paths": [str(folder / "a.txt")], "depth": 3},
        rules=(Rule(("path",), below=str(folder)), Rule(("branch",), pattern="x.*")),
    )
    other = ServerConfig("time", "server", ("--zone", "UTC"))
    with copy_folder("notes") as scratch:
        copy = str(scratch.copy)
        changed, same = scratch.rewrite([config, other])
        assert changed.args == (copy, f"--root={copy}/deep", "notes", "notes2", f"{folder}-old", "stdio")
        assert changed.cwd == copy and changed.env == {"ROOT": copy, "KEY": "secret"}
        assert changed.pinned == {"repo": copy, "paths": [f"{copy}/a.txt"], "depth": 3}
        assert [rule.below for rule in changed.rules] == [copy, None] and same == other
        assert scratch.names_of([config, other]) == {"fs"}
        assert scratch.rewrite([ServerConfig("fs", "server", ("notes",))])[0].args == (copy,)
        text = f"Look at {folder}/a.txt, not at {folder}2"
        assert scratch.to_folder(scratch.to_copy(text)) == text and copy in scratch.to_copy(text)
        with pytest.raises(UsageError, match="no server's configuration names the folder"):
            scratch.rewrite([other])


def test_what_cannot_be_copied_is_refused(folder, monkeypatch):
    for wrong in (folder / "a.txt", folder / "none"):
        with pytest.raises(UsageError, match="no folder"), copy_folder(wrong):
            pass
    monkeypatch.setattr("dualtune_mlx.mcp.scratch.MOST_FILES", 1)
    with pytest.raises(UsageError, match="too large"), copy_folder(folder):
        pass
