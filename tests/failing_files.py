"""A file system that stops at its n-th change, as if the program had been killed there.

with failing_files(3) as files:
    with suppress(Crash):
        work()
files.crashed

A write stops halfway. From then on every change is refused, so that no ``finally`` can tidy up.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

CHANGES = (
    *("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link", "symlink"),
    *("chmod", "fsync", "truncate", "ftruncate", "write"),
)
"""Functions of ``os`` that change files."""


class Crash(BaseException):
    """The program ends here."""


class FailingFiles:
    """Counts changes, and stops at one of them."""

    def __init__(self, last: int) -> None:
        self.left = last
        self.crashed = False

    def change(self) -> None:
        """A change is about to be made."""
        self.crashed = self.crashed or not self.left
        if self.crashed:
            raise Crash
        self.left -= 1

    def failing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            self.change()
            return function(*arguments, **options)

        return change

    def open_handle(self, function: Callable[..., int]) -> Callable[..., int]:
        def open_handle(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & (os.O_CREAT | os.O_TRUNC):
                self.change()
            return function(path, flags, *arguments, **options)

        return open_handle

    def open_file(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def open_file(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set("wax+") & set(mode):
                return function(path, mode, *arguments, **options)
            self.change()
            return FailingFile(self, function(path, mode, *arguments, **options))

        return open_file


class FailingFile:
    """A file that is written; the write that stops writes one half."""

    def __init__(self, files: FailingFiles, file: Any) -> None:
        self._files, self._file = files, file

    def write(self, data: Any) -> Any:
        try:
            self._files.change()
        except Crash:
            with suppress(ValueError):
                self._file.write(data[: len(data) // 2])
                self._file.flush()
            raise
        return self._file.write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def failing_files(last: int) -> Iterator[FailingFiles]:
    """Let so many changes be made, and no more."""
    files = FailingFiles(last)
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, files.failing(getattr(os, name)))
        patch.setattr(os, "open", files.open_handle(os.open))
        for module in (io, builtins):
            patch.setattr(module, "open", files.open_file(module.open))
        yield files


def crash_everywhere(folder: Path, begin: Callable[[Path], Any], work: Callable[[Path], Any]) -> Iterator[Path]:
    """Yield a folder for each change that work makes: begun, and then stopped there. The last one is of whole work."""
    for last in range(10_000):
        place = folder / f"{last:04d}"
        place.mkdir()
        begin(place)
        with failing_files(last) as files, suppress(Crash):
            work(place)
        yield place
        if not files.crashed:
            return
    raise AssertionError("the work has no end")
