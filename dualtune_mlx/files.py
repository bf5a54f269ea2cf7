"""Files that are either whole or not there: written under a temporary name, flushed, then renamed."""

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
def new_folder(destination: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that takes its name when the body succeeds.

    Raises:
        UsageError: when the destination exists and is not to be replaced, or its parent cannot be written.
    """
    if destination.exists() and not replace:
        raise UsageError("the destination exists already", where=destination, fix="choose another name or remove it")
    temporary = Path(_in_parent(destination, tempfile.mkdtemp))
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
def new_file(destination: Path) -> Iterator[Path]:
    """A temporary path beside ``destination`` that replaces it when the body succeeds."""
    handle, name = _in_parent(destination, lambda **options: tempfile.mkstemp(suffix=destination.suffix, **options))
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
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; others that want it wait."""
    with _in_parent(folder / ".lock", lambda **_: (folder / ".lock").open("w")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _in_parent(destination: Path, make: Any) -> Any:
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        return make(dir=destination.parent, prefix=".tmp-")
    except OSError as error:
        raise UsageError("a file cannot be written there", where=destination, got=error.strerror) from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
