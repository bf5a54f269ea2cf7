"""Files are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.files import (
    atomic_file,
    atomic_folder,
    lock_folder,
    parse_json,
    read_text,
    remove_leftovers,
    require_writable,
    write_json,
    write_text,
)
from dualtune_mlx.files.leftovers import OLD


class Interrupted(BaseException):
    """Like a keyboard interrupt: not an ``Exception``."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_an_interrupted_file_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_an_interrupted_new_file_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_file(tmp_path / "sub" / "a.json") as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path / "sub") == []


@pytest.mark.parametrize("error", [ValueError, Interrupted])
@pytest.mark.parametrize("replace", [True, False])
def test_an_interrupted_folder_leaves_what_was_there(tmp_path, error, replace):
    destination = tmp_path / "out"
    if replace:
        destination.mkdir()
        (destination / "old").write_text("old")
    with pytest.raises(error), atomic_folder(destination, replace) as temporary:
        (temporary / "new").write_text("half")
        raise error
    assert names(tmp_path) == (["out"] if replace else [])
    assert not replace or names(destination) == ["old"]


def test_a_folder_replaces_the_whole_older_one(tmp_path):
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "out", replace=True) as temporary:
            (temporary / name).write_text(name)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["second"]


def test_a_folder_that_cannot_take_its_name_leaves_the_older_one(tmp_path, monkeypatch):
    destination = tmp_path / "out"
    with atomic_folder(destination) as temporary:
        (temporary / "old").write_text("old")
    rename = Path.rename

    def refusing(self, target):
        if Path(target) == destination and not self.name.startswith(OLD):
            raise OSError("refused")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(OSError, match="refused"), atomic_folder(destination, replace=True) as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(destination) == ["old"]


def test_an_existing_folder_is_not_replaced_unasked(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already(?s:.*)out(?s:.*)fix: "), atomic_folder(tmp_path / "out"):
        pytest.fail("the body must not run")


def test_written_text_and_json_come_back(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "Ä\n")
    write_json(tmp_path / "a" / "c.json", {"ä": [1, None]})
    assert (tmp_path / "a" / "b.txt").read_bytes() == "Ä\n".encode()
    assert json.loads((tmp_path / "a" / "c.json").read_text(encoding="utf-8")) == {"ä": [1, None]}
    assert "ä" in (tmp_path / "a" / "c.json").read_text(encoding="utf-8")


def test_others_may_read_what_was_written(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    with atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_a_place_that_cannot_be_written_is_a_wrong_call(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written there(?s:.*)file/a.txt"):
        write_text(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(UsageError, match="cannot be written there"), atomic_folder(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
@pytest.mark.parametrize(("code", "fix"), [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room")])
def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path, write, code, fix):
    with pytest.raises(UsageError, match=f"cannot be written(?s:.*){fix}") as raised, write(tmp_path / "a"):
        raise OSError(code, os.strerror(code))
    assert (raised.value.where, raised.value.got) == (tmp_path / "a", os.strerror(code))
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_parent_that_is_removed_meanwhile_is_explained(tmp_path, write):
    with pytest.raises(UsageError, match="cannot be written(?s:.*)leave the folder"), write(tmp_path / "p" / "a"):
        shutil.rmtree(tmp_path / "p")
    assert names(tmp_path) == []


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_another_file_s_error_stays_its_own(tmp_path, write):
    with pytest.raises(FileNotFoundError), write(tmp_path / "a"):
        (tmp_path / "source").read_bytes()


def test_a_locked_folder_is_refused_where_nobody_should_wait(tmp_path):
    with lock_folder(tmp_path, "busy"), pytest.raises(UsageError, match="busy"), lock_folder(tmp_path, "busy"):
        pass
    with lock_folder(tmp_path, "busy"):
        pass


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
def test_text_is_read_without_its_mark(tmp_path, mark):
    (tmp_path / "a").write_bytes(mark + "größe\r\n".encode())
    assert read_text(tmp_path / "a") == "größe\r\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("größe".encode("utf-16"), ["got: UTF-16"]),
        ("a".encode("utf-16-be"), ["NUL character"]),
        ("a\nb\ngröße".encode("latin-1"), ["a:3", "0xf6"]),
        (b"\x1f\x8b\x08\x00", ["a:1", "0x8b"]),
    ],
)
def test_what_is_no_utf8_is_refused_with_its_line(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="not UTF-8(?s:.*)fix: ") as caught:
        read_text(tmp_path / "a")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [("1e308", 1e308), ('"\\ud83d\\ude00"', "😀"), ('{"a": {"a": 1}}', {"a": {"a": 1}})]
)
def test_json_is_parsed(text, value):
    assert parse_json(text, "it is not JSON", "here") == value


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("{", "{ (Expecting"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands there twice"),
        ("[NaN]", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("-1e400", "-1e400 is too large"),
        ('"\\uD83D"', "surrogates not allowed"),
        ("[" * 100_000, "recursion"),
        ("1" * 5000, "4300 digits"),
        ("\ufeff1", "BOM"),
    ],
)
def test_what_other_programs_would_read_otherwise_is_no_json(text, got):
    with pytest.raises(DataError, match="it is not JSON(?s:.*)where: here(?s:.*)fix: ") as caught:
        parse_json(text, "it is not JSON", "here")
    assert got in str(caught.value.got)
    assert len(str(caught.value)) < 600


def test_whether_a_file_can_be_written_is_known_before_and_leaves_nothing(tmp_path):
    require_writable(tmp_path / "sub" / "a.json")
    assert names(tmp_path / "sub") == []
    (tmp_path / "file").write_text("")
    for destination, got in ((tmp_path / "sub", "a folder"), (tmp_path / "file" / "a.json", "File exists")):
        with pytest.raises(UsageError, match="cannot be written") as raised:
            require_writable(destination)
        assert raised.value.got == got


def hold(folder: Path) -> subprocess.Popen[str]:
    """A process that is writing a file, until its input ends."""
    code = """
import sys
from pathlib import Path
from dualtune_mlx.files import atomic_file, atomic_folder
with atomic_file(Path("a.txt")) as file, atomic_folder(Path("b"), replace=True) as folder:
    file.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.processes
def test_what_another_process_is_writing_stays_and_what_a_killed_one_was_writing_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    (tmp_path / ".tmp-of-another-program").write_text("")
    process = hold(tmp_path)
    write_text(tmp_path / "c.txt", "c")
    remove_leftovers(tmp_path)
    assert len(names(tmp_path)) == 4
    process.communicate()
    assert names(tmp_path) == [".tmp-of-another-program", "a.txt", "b", "c.txt"]
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    assert len(names(tmp_path)) == 6
    write_text(tmp_path / "c.txt", "c")
    assert names(tmp_path) == [".tmp-of-another-program", "a.txt", "b", "c.txt"]


def test_a_leftover_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("mine")
    (tmp_path / ".tmp-dualtune-new").symlink_to("mine")
    (tmp_path / ".tmp-dualtune-1").symlink_to("mine/letter")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".tmp-dualtune-1", ".tmp-dualtune-new", "mine"]
    assert names(tmp_path / "mine") == ["letter"]


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    write_text(tmp_path / "a", "old")
    (tmp_path / "a").chmod(0o600)
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
