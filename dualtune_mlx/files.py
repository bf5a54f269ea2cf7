"""Files: users' own are read as UTF-8 and strict JSON, ours are written whole or not at all.

A file or folder is written under a temporary name, flushed, and then renamed. So it is either complete or not there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from dualtune_mlx.errors import DataError, UsageError

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST_SHOWN = 80
"""Characters of a text that an error repeats."""


@contextmanager
def atomic_folder(destination: Path, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``destination``; it takes that name when the body succeeds.

    Args:
        destination: the folder to write.
        replace: whether it may exist already. Then it is replaced as a whole.

    Raises:
        UsageError: when the destination exists and may not be replaced, or its parent cannot be written, for example
            because the disk is full or the parent was removed meanwhile.
    """
    if destination.exists() and not replace:
        raise UsageError("the destination exists already", where=destination, fix="choose another name or remove it")
    temporary = Path(_create_beside(destination, tempfile.mkdtemp))
    try:
        with _explained(destination, temporary):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o755)
        old = temporary.with_name(temporary.name + "-old")
        if destination.exists():
            destination.rename(old)
        try:
            temporary.rename(destination)
        except OSError:
            if old.exists():
                old.rename(destination)
            raise
    finally:
        for leftover in (temporary, temporary.with_name(temporary.name + "-old")):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def atomic_file(destination: Path) -> Iterator[Path]:
    """Give a temporary path beside ``destination``; it replaces the destination when the body succeeds.

    Raises:
        UsageError: when the destination's parent cannot be written, for example because the disk is full.
    """
    handle, name = _create_beside(destination, lambda **options: tempfile.mkstemp(suffix=destination.suffix, **options))
    os.close(handle)
    temporary = Path(name)
    try:
        with _explained(destination, temporary):
            yield temporary
            _flush(temporary)
            temporary.chmod(0o644)
            temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path, what: str = "") -> Iterator[None]:
    """Lock a folder for this process while the body runs.

    Args:
        folder: the folder; made when missing.
        what: what would go wrong, in words, if this process waited for another one that has locked it. Without these
            words it waits.

    Raises:
        UsageError: when the folder cannot be written, or another process has locked it and ``what`` is given.
    """
    with _create_beside(folder / ".lock", lambda **_: (folder / ".lock").open("w")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if what else 0))
        except BlockingIOError as error:
            raise UsageError(what, where=folder, fix="wait until it has ended, or use another folder") from error
        yield


def require_writable(destination: Path) -> None:
    """Check that a file can be written, before there is something to write.

    Raises:
        UsageError: when the destination is a folder, or its parent cannot be written.
    """
    if destination.is_dir():
        raise UsageError("a file cannot be written there", where=destination, got="a folder", expected="a file's name")
    handle, name = _create_beside(destination, tempfile.mkstemp)
    os.close(handle)
    os.unlink(name)


def write_error(destination: Path, error: OSError) -> UsageError:
    """Say in words that a file cannot be written, and why."""
    return UsageError(
        "a file cannot be written there",
        where=destination,
        got=error.strerror or error,
        fix=_FIXES.get(error.errno) if error.errno else None,
    )


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FIXES = {
    **dict.fromkeys(NO_ROOM, "make room on that disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "use a folder that you may write in"),
    errno.ENOENT: "leave the folder where it is while a program writes into it",
}


@contextmanager
def _explained(destination: Path, temporary: Path) -> Iterator[None]:
    """Explain the errors of writing; what is wrong with other files is theirs to say."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM or not temporary.exists():
            raise write_error(destination, error) from error
        raise


def _create_beside(destination: Path, create: Any) -> Any:
    """Make the destination's parent, and create something in it."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        return create(dir=destination.parent, prefix=".tmp-")
    except OSError as error:
        raise write_error(destination, error) from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8.

    Raises:
        UsageError: when the path's parent cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        UsageError: when the path's parent cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        names = ", ".join(sorted(file.name for file in path.glob("*.json*") if file.is_file()))
        fix = f"name one of its files: {names}" if names else None
        raise UsageError("a file cannot be read", where=path, got="a folder", expected="a file", fix=fix) from error
    except OSError as error:
        raise UsageError("a file cannot be read", where=path, got=error.strerror, expected="a file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(UTF_16):
            raise _not_utf8(path, "UTF-16") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise _not_utf8(f"{path}:{line}", f"{error.reason}: {data[error.start]:#x}") from error
    if "\0" in text:
        raise _not_utf8(path, "a NUL character, as in UTF-16 and in files that are no text")
    return text


def _not_utf8(where: object, got: str) -> DataError:
    return DataError("a file is not UTF-8 text", where=where, got=got, expected="UTF-8", fix="save it as UTF-8")


def parse_json(text: str, what: str, where: object, expected: str = "JSON") -> Any:
    """Parse JSON in which every key stands once in its object, numbers are finite, and characters are whole.

    Args:
        text: the JSON.
        what: what is wrong when it is none, such as "a line is not JSON".
        where: the file and line, for messages.
        expected: what should have been there, for messages.

    Raises:
        DataError: when it is not such JSON.
    """
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            what,
            where=where,
            got=f"{text.strip()[:LONGEST_SHOWN]} ({error})",
            expected=expected,
            fix="mend it there, or write it with a program that writes JSON",
        ) from error


def load_json(text: str) -> Any:
    """``parse_json`` with Python's own errors: ``json.JSONDecodeError`` has the line, others name what is wrong."""
    value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_number, parse_float=_to_float)
    if "\\ud" in text or "\\uD" in text:  # half of a surrogate pair is no character
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {max(names, key=names.count)!r} stands there twice")
    return value


def _refuse_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _to_float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value
