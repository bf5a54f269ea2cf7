"""The families of lines, and the split of each: in a database on the disk, so that memory does not grow with the data.

A family is what requests of one wording share. Families that have a wording in common are one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from dualtune_mlx.data.wordings import digest

TABLES = """
CREATE TABLE lines (line INT, family INT, wording INT, stratum TEXT, tool TEXT);
CREATE TABLE families (family INT, stratum TEXT, lines INT, split TEXT DEFAULT 'train');
CREATE TABLE placed (line INT PRIMARY KEY, split TEXT);
"""
Row = tuple[int, int, int, str, str]
"""A line's number, its family, its wording (0 for none), its stratum and the tool that it is about.

Each stratum has about the same share in each split. A line may be of several families: then it goes with the one that
is held out the furthest."""


class Families:
    """The families of all lines."""

    def __init__(self, database: sqlite3.Connection, seed: int) -> None:
        self.database = database
        database.create_function("drawn", 1, lambda family: digest(str(seed), str(family)), deterministic=True)

    def add(self, rows: Iterable[Row]) -> None:
        """Add lines."""
        self.database.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?)", rows)

    def divide(self, shares: Mapping[str, float]) -> None:
        """Give each family a split, so that of each stratum's lines about a share is in each split of ``shares``.

        A stratum has a family in each split, as long as half of its lines stay in training.
        """
        self._unite()
        self.database.execute(
            """INSERT INTO families (family, stratum, lines) SELECT family, stratum, total FROM
               (SELECT family, stratum, SUM(COUNT(*)) OVER (PARTITION BY family) AS total,
                       ROW_NUMBER() OVER (PARTITION BY family ORDER BY COUNT(*) DESC, stratum) AS place
                FROM lines GROUP BY family, stratum) WHERE place = 1"""
        )
        self.database.execute("CREATE UNIQUE INDEX by_family ON families (family)")
        self.database.execute("CREATE INDEX by_stratum ON families (stratum)")
        query = "SELECT stratum, SUM(lines), COUNT(*) FROM families GROUP BY stratum"
        for stratum, lines, count in self.database.execute(query).fetchall():
            self._divide_stratum(stratum, {split: share * lines for split, share in shares.items()}, count, lines)
        self.database.execute(
            """INSERT INTO placed SELECT line, split FROM
               (SELECT line, split, MAX(instr('train valid test', split))
                FROM lines JOIN families USING (family) GROUP BY line)"""
        )

    def iter_splits(self) -> Iterator[str]:
        """The split of each line, in the order of their numbers."""
        for (split,) in self.database.execute("SELECT split FROM placed ORDER BY line"):
            yield split

    def count_tools(self) -> Iterator[tuple[str, str, int]]:
        """(tool, split, lines about the tool in the split), by tool."""
        query = "SELECT tool, split, COUNT(*) FROM lines JOIN placed USING (line) GROUP BY tool, split ORDER BY tool"
        yield from self.database.execute(query)

    def count(self, stratum: str) -> int:
        """How many families a stratum has."""
        query = "SELECT COUNT(DISTINCT family) FROM lines WHERE stratum = ?"
        return int(self.database.execute(query, (stratum,)).fetchone()[0])

    def _unite(self) -> None:
        """Families that have a wording in common get one number."""
        query = """SELECT DISTINCT wording, family FROM lines WHERE wording IN
                   (SELECT wording FROM lines WHERE wording != 0 GROUP BY wording HAVING COUNT(DISTINCT family) > 1)
                   ORDER BY wording, family"""
        leaders: dict[int, int] = {}

        def lead(family: int) -> int:
            while leaders.get(family, family) != family:
                family = leaders[family]
            return family

        first: dict[int, int] = {}
        for wording, family in self.database.execute(query):
            one, other = lead(first.setdefault(wording, family)), lead(family)
            leaders[max(one, other)] = min(one, other)
        if leaders:
            self.database.execute("CREATE INDEX of_lines ON lines (family)")
        united = ((lead(family), family) for family in leaders if lead(family) != family)
        self.database.executemany("UPDATE lines SET family = ? WHERE family = ?", united)

    def _divide_stratum(self, stratum: str, quotas: Mapping[str, float], families: int, total: int) -> None:
        """Draw a stratum's families into the splits that measure; the others stay in training."""
        filled = dict.fromkeys(list(quotas)[: families - 1], 0)
        drawn = []
        query = "SELECT family, lines FROM families WHERE stratum = ? ORDER BY drawn(family), family"
        for family, lines in self.database.execute(query, (stratum,)):
            split = next((one for one in filled if filled[one] + lines / 2 <= quotas[one]), None)
            if split:
                filled[split] += lines
                drawn.append((split, family))
        self._place(drawn)
        smallest = (
            "SELECT family, lines FROM families WHERE stratum = ? AND split = 'train'"
            " ORDER BY lines, drawn(family) LIMIT 1"
        )
        for split in [one for one, lines in filled.items() if not lines]:
            family, lines = self.database.execute(smallest, (stratum,)).fetchone()
            if sum(filled.values()) + lines <= total / 2:
                filled[split] = lines
                self._place([(split, family)])

    def _place(self, drawn: Iterable[tuple[str, int]]) -> None:
        self.database.executemany("UPDATE families SET split = ? WHERE family = ?", drawn)
