"""Files are written whole or not at all.

A file or folder is written under a temporary name, flushed, and then renamed. So it is either complete or not there,
also where the program ends in the middle of it. What is left then is removed when something is written there next.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.files.leftovers import NEW, OLD, TEMPORARY, Lock, create_locked, move_new_files, remove_leftovers


@contextmanager
def atomic_folder(destination: Path, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``destination``; it takes that name when the body succeeds.

    Args:
        destination: the folder to write.
        replace: whether it may exist already. Then it is replaced as a whole; ``whole_folder`` reads such a folder.

    Raises:
        UsageError: when the destination exists and may not be replaced, or its parent cannot be written, for example
            because the disk is full or the parent was removed meanwhile.
    """
    if destination.exists() and not replace:
        raise UsageError("the destination exists already", where=destination, fix="choose another name or remove it")
    with _temporary(destination, tempfile.mkdtemp) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        temporary.chmod(0o755)
        _replace_folder(temporary, destination)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step: where the program ends in the middle of it, the rest is a leftover.

    Raises:
        OSError: when it is not there, or cannot be removed.
    """
    aside = folder.with_name(TEMPORARY + secrets.token_hex(4))
    folder.rename(aside)
    shutil.rmtree(aside)


def whole_folder(destination: Path) -> Path:
    """Where to read a folder that is replaced as a whole: its place or, after an interrupted replacement, aside."""
    old = _name_aside(destination)
    return old if not destination.exists() and old.is_dir() else destination


def _replace_folder(temporary: Path, destination: Path) -> None:
    old = _name_aside(destination)
    with closing(Lock(destination)) if destination.exists() else nullcontext():
        if destination.exists():
            shutil.rmtree(old, ignore_errors=True)
            destination.rename(old)
        try:
            temporary.rename(destination)
        except OSError:
            if old.exists():
                old.rename(destination)
            raise
        _flush_names(destination.parent)
        shutil.rmtree(old, ignore_errors=True)


def _name_aside(destination: Path) -> Path:
    return destination.with_name(OLD + destination.name)


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """Give a temporary folder; all its files, or none, replace those of their names in ``folder``.

    Where the program ends in between, ``remove_leftovers`` moves the rest of them.

    Raises:
        UsageError: when the folder cannot be written, for example because the disk is full.
    """
    with _temporary(folder / NEW, tempfile.mkdtemp) as temporary:
        yield temporary
        for file in temporary.iterdir():
            _flush(file)
            file.chmod(_mode_of(folder / file.name, 0o644))
        temporary.rename(folder / NEW)
        move_new_files(folder)
        _flush_names(folder)


@contextmanager
def atomic_file(destination: Path, mode: int = 0o644) -> Iterator[Path]:
    """Give a temporary path beside ``destination``; it replaces the destination when the body succeeds.

    Args:
        destination: the file to write.
        mode: the permissions of a new file. One that is replaced keeps its own.

    Raises:
        UsageError: when the destination's parent cannot be written, for example because the disk is full.
    """
    with _temporary(destination, lambda **options: _make_file(suffix=destination.suffix, **options)) as temporary:
        yield temporary
        _flush(temporary)
        temporary.chmod(_mode_of(destination, mode))
        temporary.replace(destination)
        _flush_names(destination.parent)


def require_writable(destination: Path) -> None:
    """Check that a file can be written, before there is something to write.

    Raises:
        UsageError: when the destination is a folder, or its parent cannot be written.
    """
    if destination.is_dir():
        raise UsageError("a file cannot be written there", where=destination, got="a folder", expected="a file's name")
    with _temporary(destination, _make_file):
        pass


def require_no_links(root: Path, path: Path) -> None:
    """Check that nothing between a folder and a path below it is a link, before something is written or removed there.

    Raises:
        UsageError: naming the link.
    """
    inside = path.relative_to(root).parts
    for number in range(1, len(inside) + 1):
        part = root.joinpath(*inside[:number])
        if part.is_symlink():
            raise UsageError(
                "nothing is written or removed through a link",
                where=part,
                got=f"a link to {os.readlink(part)}",
                expected="a folder or file of its own",
                fix="remove the link",
            )


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
    errno.ELOOP: "remove the link",
}


@contextmanager
def _temporary(destination: Path, create: Callable[..., str]) -> Iterator[Path]:
    """Create something beside the destination, and remove it in the end, unless it was renamed.

    Raises:
        UsageError: when it cannot be created. Errors of writing are explained; what is wrong with other files is theirs
            to say.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(destination.parent)
        temporary, lock = create_locked(lambda: create(dir=destination.parent, prefix=TEMPORARY))
    except OSError as error:
        raise write_error(destination, error) from error
    with closing(lock):
        try:
            yield temporary
        except OSError as error:
            if error.errno in NO_ROOM or not temporary.exists():
                raise write_error(destination, error) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)


def _mode_of(destination: Path, mode: int) -> int:
    """The permissions of a file that is replaced; those that are given for a new one."""
    return stat.S_IMODE(destination.stat().st_mode) if destination.exists() else mode


def _make_file(**options: Any) -> str:
    handle, name = tempfile.mkstemp(**options)
    os.close(handle)
    return name


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_names(folder: Path) -> None:
    with suppress(OSError):  # some folders cannot be read, and some systems flush none
        _flush(folder)


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
