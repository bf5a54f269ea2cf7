"""Temporary files and folders are locked while they are written, so what a program left that is gone is known.

A lock ends with its process, however that ends. Process numbers and ages would be guesses.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

TEMPORARY = ".tmp-dualtune-"
"""How the names begin of what is being written."""
OLD = TEMPORARY + "old."
"""How the name begins of a folder that is being replaced; its own name follows."""
NEW = TEMPORARY + "new"
"""A folder of whole files that are to replace those around it."""


class Lock:
    """A lock on a file or folder, which stays with it when that is renamed. Closing ends it."""

    def __init__(self, path: Path, wait: bool = True) -> None:
        """Lock it.

        Raises:
            OSError: when it cannot be opened, or is locked and is not to be waited for.
        """
        self._handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            if not wait:
                self.close()
                raise

    def close(self) -> None:
        """Unlock it."""
        os.close(self._handle)


def create_locked(create: Callable[[], str]) -> tuple[Path, Lock]:
    """Create a file or folder, and lock it.

    Raises:
        OSError: when it cannot be created.
    """
    while True:
        path = Path(create())
        with suppress(FileNotFoundError):  # taken for a leftover before it was locked
            lock = Lock(path)
            if path.exists():
                return path, lock
            lock.close()


def move_new_files(folder: Path) -> None:
    """Let the files of the folder ``NEW`` take the places of those around it."""
    for file in sorted((folder / NEW).iterdir()):
        file.replace(folder / file.name)
    (folder / NEW).rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove what programs that are gone were writing in a folder.

    Folders that they were replacing stay or return; files that were to be replaced together are.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    with closing(Lock(path, wait=False)):
        place = path.with_name(path.name.removeprefix(OLD))
        if path.name == NEW:
            move_new_files(path.parent)
        elif path.name.startswith(OLD) and not place.exists():
            path.rename(place)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
