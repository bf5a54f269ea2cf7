"""A folder that one process at a time works in."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualtune_mlx.errors import UsageError
from dualtune_mlx.files.reading import NO_FILE
from dualtune_mlx.files.writing import write_error

LOCK = ".lock"
"""The file in a folder that is locked. It stays there, empty."""


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open_lock(folder)
    except OSError as error:
        raise write_error(folder / LOCK, error) from error
    try:
        if not _lock(handle, wait=not what):
            raise UsageError(what, where=folder, fix="wait until it has ended, or use another folder")
        yield
    finally:
        os.close(handle)


@contextmanager
def try_lock_folder(folder: Path) -> Iterator[bool]:
    """Lock a folder, if that can be done at once; whether it is locked while the body runs."""
    try:
        handle = _open_lock(folder)
    except OSError:
        yield False
        return
    try:
        yield _lock(handle, wait=False)
    finally:
        os.close(handle)


def _open_lock(folder: Path) -> int:
    """Open a folder's lock. A link is not followed, a pipe not waited for, and nothing is cut off."""
    path = folder / LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    return handle


def _lock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
