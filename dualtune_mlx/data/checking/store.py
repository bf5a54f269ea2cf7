"""Findings, and prints of lines to compare, in a database on the disk: memory does not grow with the data."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dualtune_mlx.data.checking.kinds import KINDS, Finding
from dualtune_mlx.data.checking.prints import Print
from dualtune_mlx.data.scratch import open_scratch

TABLES = """
CREATE TABLE findings (file TEXT, line INT, kind TEXT, what TEXT, fix TEXT, stays INT);
CREATE TABLE prints (split TEXT, file TEXT, line INT, whole INT, calls INT, wording INT, family INT, words TEXT);
CREATE TABLE decisions (file TEXT, line INT, known INT, done INT);
CREATE TABLE pairs (file TEXT, line INT, first_file TEXT, first_line INT, PRIMARY KEY (file, line));
"""


class Store:
    """What one check keeps."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        database.create_function("reversed", 1, lambda text: text[::-1], deterministic=True)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Store]:
        """Give a store; it is gone at the end."""
        with open_scratch(TABLES) as database:
            yield cls(database)

    def add_findings(self, findings: Iterable[Finding]) -> None:
        """Keep findings."""
        rows = ((one.file, one.line, one.kind, one.what, one.fix, one.stays) for one in findings)
        self.database.executemany("INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?)", rows)

    def add_prints(self, split: str, file: str, prints: Iterable[Print]) -> None:
        """Keep the prints of lines of a file."""
        prints = list(prints)
        rows = ((split, file, one.line, one.whole, one.calls, one.wording, one.family, one.words) for one in prints)
        self.database.executemany("INSERT INTO prints VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        decisions = ((file, one.line, known, done) for one in prints for known, done in one.decisions)
        self.database.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?)", decisions)

    def count_kinds(self) -> dict[str, int]:
        """How many findings there are of each kind that was found, in the order of ``KINDS``."""
        counts = dict(self.database.execute("SELECT kind, COUNT(*) FROM findings GROUP BY kind"))
        return {kind: counts[kind] for kind in KINDS if kind in counts}

    def count(self, kind: str, file: str) -> int:
        """How many findings of a kind a file has."""
        query = "SELECT COUNT(*) FROM findings WHERE kind = ? AND file = ?"
        return int(self.database.execute(query, (kind, file)).fetchone()[0])

    def iter_findings(self, kind: str = "", limit: int = -1) -> Iterator[Finding]:
        """The findings by file and line; those of one kind, or all."""
        where = "WHERE kind = ?" if kind else ""
        query = f"SELECT * FROM findings {where} ORDER BY file, line, rowid LIMIT {limit}"
        for row in self.database.execute(query, (kind,) if kind else ()):
            yield Finding(*row)

    def iter_removable(self, file: str) -> Iterator[tuple[int, str, str]]:
        """The lines of a file that are better left out, in order: number, kind and what is wrong."""
        kinds = ", ".join(f"'{name}'" for name, kind in KINDS.items() if kind.removable)
        query = f"""SELECT line, kind, what, MIN(rowid) FROM findings
                    WHERE file = ? AND line > 0 AND NOT stays AND kind IN ({kinds}) GROUP BY line ORDER BY line"""
        for line, kind, what, _ in self.database.execute(query, (file,)):
            yield line, kind, what
