"""The database for work in between: where it cannot be written, that is said in words."""

from __future__ import annotations

import sqlite3

import pytest

from dualtune_mlx.data.scratch import open_scratch
from dualtune_mlx.errors import UsageError


def test_a_full_disk_is_told_in_words() -> None:
    with pytest.raises(UsageError, match="cannot be written(?s:.*)full(?s:.*)make room"):
        with open_scratch("CREATE TABLE t (text TEXT);") as database:
            database.execute("PRAGMA max_page_count = 4")
            database.executemany("INSERT INTO t VALUES (?)", [("x" * 1_000,)] * 100)


def test_another_fault_is_no_full_disk() -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"), open_scratch("") as database:
        database.execute("SELECT * FROM absent")
