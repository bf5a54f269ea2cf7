"""The families of lines, and the split of each: in a database on the disk, so that memory does not grow with the data.

A family is what requests of one wording share. Families that have a wording in common are one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from dualtune_mlx.data.wordings import digest

TABLES = """
CREATE TABLE lines (line INT, family INT, wording INT, tool TEXT);
CREATE TABLE families (family INT, tool TEXT, lines INT, split TEXT DEFAULT 'train');
"""
Row = tuple[int, int, int, str]
"""A line's number, its family, its wording (0 for none) and the tool that it is about.

A line may be of several families: then it goes with the one that is held out the furthest."""


class Families:
    """The families of all lines."""

    def __init__(self, database: sqlite3.Connection, seed: int) -> None:
        self.database = database
        database.executescript(TABLES)
        database.create_function("drawn", 1, lambda family: digest(str(seed), str(family)), deterministic=True)

    def add(self, rows: Iterable[Row]) -> None:
        """Add lines."""
        self.database.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)

    def divide(self, shares: Mapping[str, float]) -> None:
        """Give each family a split, so that of each tool's lines about a share is in each split of ``shares``.

        A tool with enough families has at least one in each split; where it has few, training comes first.
        """
        self._unite()
        self.database.execute(
            """INSERT INTO families (family, tool, lines) SELECT family, tool, total FROM
               (SELECT family, tool, SUM(COUNT(*)) OVER (PARTITION BY family) AS total,
                       ROW_NUMBER() OVER (PARTITION BY family ORDER BY COUNT(*) DESC, tool) AS place
                FROM lines GROUP BY family, tool) WHERE place = 1"""
        )
        self.database.execute("CREATE UNIQUE INDEX by_family ON families (family)")
        self.database.execute("CREATE INDEX by_tool ON families (tool)")
        tools = self.database.execute("SELECT tool, SUM(lines), COUNT(*) FROM families GROUP BY tool").fetchall()
        for tool, lines, count in tools:
            self._divide_tool(tool, {split: share * lines for split, share in shares.items()}, count)

    def iter_splits(self) -> Iterator[str]:
        """The split of each line, in the order of their numbers."""
        query = "SELECT MAX(instr(?, split)), split FROM lines JOIN families USING (family) GROUP BY line ORDER BY line"
        for _, split in self.database.execute(query, ("train valid test",)):
            yield split

    def count(self, tool: str) -> int:
        """How many families a tool has."""
        (count,) = self.database.execute("SELECT COUNT(DISTINCT family) FROM lines WHERE tool = ?", (tool,)).fetchone()
        return int(count)

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

    def _divide_tool(self, tool: str, quotas: Mapping[str, float], families: int) -> None:
        """Draw a tool's families into the splits that measure; the others stay in training."""
        filled = dict.fromkeys(list(quotas)[: families - 1], 0)
        drawn = []
        query = "SELECT family, lines FROM families WHERE tool = ? ORDER BY drawn(family), family"
        for family, lines in self.database.execute(query, (tool,)):
            split = next((one for one in filled if filled[one] + lines / 2 <= quotas[one]), None)
            if split:
                filled[split] += lines
                drawn.append((split, family))
        self._place(drawn)
        smallest = (
            "SELECT family FROM families WHERE tool = ? AND split = 'train' ORDER BY lines, drawn(family) LIMIT 1"
        )
        for split in (one for one, lines in filled.items() if not lines):
            (family,) = self.database.execute(smallest, (tool,)).fetchone()
            self._place([(split, family)])

    def _place(self, drawn: Iterable[tuple[str, int]]) -> None:
        self.database.executemany("UPDATE families SET split = ? WHERE family = ?", drawn)
