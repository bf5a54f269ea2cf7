"""A database on the disk for the time of one piece of work, so that memory does not grow with the data."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dualtune_mlx.errors import UsageError

FULL = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
"""How SQLite names that it cannot write."""
CACHE = 64 * 2**20
"""Bytes of memory that the database may use."""


@contextmanager
def open_scratch(tables: str) -> Iterator[sqlite3.Connection]:
    """Give a new database with tables; it is removed at the end, so nothing in it is safe from a crash.

    Raises:
        UsageError: when it cannot be written, for example because the disk is full.
    """
    settings = f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE // 1024};"
    with tempfile.TemporaryDirectory(prefix="dualtune-data-") as folder:
        with closing(sqlite3.connect(Path(folder) / "scratch.sqlite", isolation_level=None)) as database:
            try:
                database.executescript(f"{settings} {tables} BEGIN;")
                yield database
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith(FULL):
                    raise
                raise UsageError(
                    "the folder for work in between cannot be written",
                    where=folder,
                    got=error,
                    fix="make room on that disk, or name another folder: TMPDIR=FOLDER",
                ) from error
