"""Atomic writes: a file or folder is written under a temporary name, flushed, and then renamed.

So it is either complete or not there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError


@contextmanager
def atomic_folder(destination: Path, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``destination``; it takes that name when the body succeeds.

    Args:
        destination: the folder to write.
        replace: whether it may exist already. Then it is replaced as a whole.

    Raises:
        UsageError: when the destination exists and may not be replaced, or its parent cannot be written.
    """
    if destination.exists() and not replace:
        raise UsageError("the destination exists already", where=destination, fix="choose another name or remove it")
    temporary = Path(_create_beside(destination, tempfile.mkdtemp))
    try:
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
        UsageError: when the destination's parent cannot be written.
    """
    handle, name = _create_beside(destination, lambda **options: tempfile.mkstemp(suffix=destination.suffix, **options))
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o644)
        temporary.replace(destination)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for this process while the body runs; other processes that lock it wait.

    Raises:
        UsageError: when the folder cannot be written.
    """
    with _create_beside(folder / ".lock", lambda **_: (folder / ".lock").open("w")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create_beside(destination: Path, create: Any) -> Any:
    """Make the destination's parent, and create something in it."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        return create(dir=destination.parent, prefix=".tmp-")
    except OSError as error:
        raise UsageError("a file cannot be written there", where=destination, got=error.strerror) from error


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
