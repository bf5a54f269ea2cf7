"""``check_data``: what is wrong with the data of a folder or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.data.checking.counts import Counts
from dualtune_mlx.data.checking.fixing import Removed, remove_lines
from dualtune_mlx.data.checking.kinds import KINDS, Finding
from dualtune_mlx.data.checking.run import Length, check_lines
from dualtune_mlx.data.checking.store import Store
from dualtune_mlx.data.reading import SPLITS, read_tools
from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import Tool

ASIDE = ("rejected", "removed")
"""The last parts of the names of files that hold what is not to be used."""


@dataclass(frozen=True)
class CheckReport:
    """What a check found. It is read while the check's database is there."""

    data: Path
    files: dict[str, Path]
    """The files that were checked, by their splits."""
    counts: dict[str, Counts]
    """The counts of each split."""
    length: Length
    """How lines were measured."""
    kinds: dict[str, int]
    """The findings of each kind that was found."""
    removed: tuple[Removed, ...]
    """What ``fix`` took out of each file, before this check."""
    store: Store

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return sum(count for kind, count in self.kinds.items() if KINDS[kind].is_error)

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return sum(self.kinds.values()) - self.errors

    def iter_findings(self, kind: str = "", limit: int = -1) -> Iterator[Finding]:
        """The findings by file and line: of one kind or of all, and at most ``limit`` unless it is negative."""
        return self.store.iter_findings(kind, limit)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON, without the findings."""
        return {
            "data": str(self.data),
            "lines": {split: counts.lines for split, counts in self.counts.items()},
            "errors": self.errors,
            "warnings": self.warnings,
            "kinds": {
                kind: {"title": KINDS[kind].title, "error": KINDS[kind].is_error, "count": count}
                for kind, count in self.kinds.items()
            },
            "length": {"unit": self.length.unit, "window": self.length.window},
            "tools": {split: dict(counts.tools) for split, counts in self.counts.items()},
            "removed": [removed.to_dict() for removed in self.removed],
        }


@contextmanager
def check_data(
    data: Path,
    tools: tuple[Tool, ...] | None = None,
    length: Length | None = None,
    *,
    fix: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
    processes: int | None = None,
) -> Iterator[CheckReport]:
    """Check all lines of a data folder or of a ``.jsonl`` file, and the lines against each other.

    Args:
        data: the folder or the file.
        tools: the visible tools of lines that have none of their own; by default those of ``tools.json`` beside them.
        length: how lines are measured; by default in words.
        fix: take out what is mended by that, and check what remains.
        report: is called with the bytes that are done, and all.
        processes: how many check; one for each core where there is much to do. A script that is run needs Python's
            ``if __name__ == "__main__":`` then, for further processes read it too.

    Raises:
        UsageError: when there is no such data, or a file cannot be read or written.
        DataError, ToolError: when the tools cannot be used, or a file is UTF-16.
    """
    files = find_files(data)
    folder = data if data.is_dir() else data.parent
    if tools is None:
        tools = read_tools(folder / "tools.json") if (folder / "tools.json").is_file() else ()
    measured = length or Length()
    removed: tuple[Removed, ...] = ()
    if fix:
        with Store.open() as store:
            check_lines(store, files, tools, measured, report, processes)
            removed = tuple(filter(None, (remove_lines(path, store) for path in files.values())))
    with Store.open() as store:
        counts = check_lines(store, files, tools, measured, report, processes)
        yield CheckReport(data, files, counts, measured, store.count_kinds(), removed, store)


def find_files(data: Path) -> dict[str, Path]:
    """The data files of a folder by their splits: train, valid and test or, where it has none, all ``.jsonl`` files.

    Raises:
        UsageError: when there are none.
    """
    if data.is_file():
        return {data.stem: data}
    named = {split: data / f"{split}.jsonl" for split in SPLITS}
    found = {split: path for split, path in named.items() if path.is_file()}
    others = (path for path in sorted(data.glob("*.jsonl")) if path.stem.rpartition(".")[2] not in ASIDE)
    found = found or {path.stem: path for path in others}
    if not found:
        raise UsageError(
            "there is no data to check",
            where=data,
            got="no .jsonl file" if data.is_dir() else "no such file or folder",
            fix="name a data folder, or a .jsonl file",
        )
    return found
