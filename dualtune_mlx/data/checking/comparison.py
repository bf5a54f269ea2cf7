"""What is wrong between lines: duplicates, contradictions, and what splits share."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from dualtune_mlx.data.checking.kinds import Finding
from dualtune_mlx.data.checking.store import Store

SIMILAR = 0.83
"""Two requests for the same calls are nearly the same when this share of their words stands in both."""
NEIGHBOURS = 10
"""Requests of the same calls are compared with so many others, in the order of their first and of their last words."""
MEASURED_FIRST = "test valid train"
"""What two splits share stays in the one that comes first here, for it measures; the others lose it."""
DIVIDE = "divide the data again: dualtune data split"


def find_duplicates(store: Store) -> Iterator[Finding]:
    """Lines that are there before, in the same split."""
    query = """SELECT split, whole, file, line FROM prints WHERE (split, whole) IN
               (SELECT split, whole FROM prints GROUP BY split, whole HAVING COUNT(*) > 1)
               ORDER BY split, whole, file, line"""
    for _, group in groupby(store.database.execute(query), key=lambda row: row[:2]):
        (*_, first_file, first_line), *others = group
        for *_, file, line in others:
            yield Finding(file, line, "duplicate", f"the same as {first_file}:{first_line}", "leave it out")


def find_near_duplicates(store: Store) -> Iterator[Finding]:
    """Lines with the calls of another one whose requests have nearly the same words, in the same split."""
    for order in ("words", "reversed(words)"):
        query = f"""SELECT split, calls, words, whole, file, line FROM prints WHERE (split, calls) IN
                    (SELECT split, calls FROM prints GROUP BY split, calls HAVING COUNT(DISTINCT whole) > 1)
                    ORDER BY split, calls, {order}, file, line"""
        pairs = _pair_similar(store.database.execute(query))
        store.database.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?)", pairs)
    for file, line, first_file, first_line in store.database.execute("SELECT * FROM pairs"):
        what = f"nearly the same request as {first_file}:{first_line}, for the same calls"
        yield Finding(file, line, "near_duplicate", what, "word it otherwise, or leave it out")


def _pair_similar(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[str, int, str, int]]:
    """The places of requests that are nearly the same as a neighbour: the later one, and the earlier one."""
    for _, group in groupby(rows, key=lambda row: row[:2]):
        before: deque[tuple[Counter[str], int, tuple[str, int]]] = deque(maxlen=NEIGHBOURS)
        for _, _, words, whole, file, line in group:
            counted = Counter(words.split())
            for other, other_whole, place in before:
                if whole != other_whole and _share(counted, other) >= SIMILAR:
                    first, second = sorted((place, (file, line)))
                    yield (*second, *first)
                    break
            before.append((counted, whole, (file, line)))


def _share(one: Counter[str], other: Counter[str]) -> float:
    """The share of the words of two requests that stand in both."""
    words = one.total() + other.total()
    return 2 * (one & other).total() / words if words else 1.0


def find_contradictions(store: Store) -> Iterator[Finding]:
    """Lines in which the same request is followed by other calls than elsewhere."""
    query = """SELECT known, done, file, line FROM decisions WHERE known IN
               (SELECT known FROM decisions GROUP BY known HAVING COUNT(DISTINCT done) > 1)
               ORDER BY known, file, line"""
    for _, group in groupby(store.database.execute(query), key=lambda row: row[0]):
        rows = list(group)
        first, second = rows[0], next(row for row in rows if row[1] != rows[0][1])
        for _, done, file, line in rows:
            other = second if done == first[1] else first
            what = f"the same request as in {other[2]}:{other[3]}, and another call"
            yield Finding(file, line, "contradiction", what, "keep the right one")


def find_shared(store: Store, column: str) -> Iterator[Finding]:
    """Lines whose ``wording`` or ``family`` (the column) stands in another split too."""
    splits = "('test', 'valid', 'train')"
    query = f"""SELECT {column}, split, file, line FROM prints WHERE split IN {splits} AND {column} IN
                (SELECT {column} FROM prints WHERE {column} != 0 AND split IN {splits}
                 GROUP BY {column} HAVING COUNT(DISTINCT split) > 1)
                ORDER BY {column}, instr('{MEASURED_FIRST}', split), line"""
    for _, group in groupby(store.database.execute(query), key=lambda row: row[0]):
        rows = list(group)
        _, kept, *first = rows[0]
        other = next(row[2:] for row in rows if row[1] != kept)
        for _, split, file, line in rows:
            place = other if split == kept else first
            what = f"the {column} is also that of {place[0]}:{place[1]}, which is of another split"
            yield Finding(file, line, f"{column}_in_splits", what, DIVIDE, stays=split == kept)
