"""The division of files: each line goes, as it is, into the file of its split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count as numbered
from pathlib import Path
from typing import Any

from dualtune_mlx.data.lines import DataLine, iter_blocks, iter_right_lines, read_block, read_family
from dualtune_mlx.data.reading import SPLITS, read_tools
from dualtune_mlx.data.scratch import open_scratch
from dualtune_mlx.data.splitting.families import TABLES, Families, Row
from dualtune_mlx.data.wordings import digest, fold, fold_wording
from dualtune_mlx.data.writing import write_tools
from dualtune_mlx.errors import UsageError
from dualtune_mlx.files import atomic_files
from dualtune_mlx.tools import RESPOND, Tool, Trajectory, find_called_tool

CALLED = "*"
"""Stands for all tools that are called, where whole tools are held out."""
BY = ("family", "tool")
"""What is never in two splits: the requests of a wording, or the calls of a tool."""


@dataclass(frozen=True)
class Divided:
    """Where the lines are now."""

    folder: Path
    """The data folder."""
    lines: dict[str, int]
    """The lines of each split that was written."""
    tools: dict[str, dict[str, int]]
    """For each tool, and ``respond``, the lines in each split that call it first or, by tool, that call it at all."""

    def to_dict(self) -> dict[str, Any]:
        """The division as JSON."""
        return {"data": str(self.folder), "lines": self.lines, "tools": self.tools}


def split_data(
    sources: Sequence[Path],
    folder: Path,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    by: str = "family",
    seed: int = 0,
    replace: bool = False,
) -> Divided:
    """Divide the lines of files into ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl`` of a data folder.

    Args:
        sources: the files, with the tools in their lines or in ``tools.json`` beside them.
        folder: the data folder. It gets this ``tools.json``, unless it has it.
        valid: the share of the lines for validation; 0 for none.
        test: the share for the test; 0 for none.
        by: ``family``: no wording is in two splits, and each tool is in all of them as long as half of its lines are
            learned; ``tool``: no tool that is called in the validation or test data is learned.
        seed: the same seed divides the same lines alike.
        replace: whether files that are there may be replaced.

    Raises:
        UsageError: when a share is wrong, a file cannot be read or written or is there already, sources have different
            ``tools.json``, or there are too few tools to hold some out.
        DataError: when a line is wrong, or there are none.
    """
    shares = {split: share for split, share in (("test", test), ("valid", valid)) if share}
    _check(folder, shares, by, replace)
    beside = {path: _read_beside(path) for path in sources}
    shared = _find_shared(beside, folder)
    with open_scratch(TABLES) as database:
        families = Families(database, seed)
        numbers = numbered(1)
        for path in sources:
            families.add(row for line in iter_right_lines(path, beside[path]) for row in _rows(next(numbers), line, by))
        if by == "tool" and families.count(CALLED) <= len(shares):
            raise UsageError(
                "there are too few tools to hold some out",
                got=f"{families.count(CALLED)} that are called",
                expected=f"more than {len(shares)}",
                fix="divide by wording: --by family",
            )
        families.divide(shares)
        with atomic_files(folder) as temporary:
            lines = _write(sources, temporary, shares, families)
            if shared and not (folder / "tools.json").exists():
                write_tools(temporary, shared)
        tools: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for tool, split, count in families.count_tools():
            tools[tool][split] = count
        return Divided(folder, lines, dict(tools))


def _check(folder: Path, shares: dict[str, float], by: str, replace: bool) -> None:
    if by not in BY:
        raise UsageError("there is no such way to divide data", got=by, expected=" or ".join(BY))
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        raise UsageError(
            "the shares leave nothing for training", got=shares, expected="shares from 0 to 1, and together less than 1"
        )
    there = [f"{split}.jsonl" for split in ("train", *shares) if (folder / f"{split}.jsonl").exists()]
    if there and not replace:
        raise UsageError(
            "the data is divided already",
            where=folder,
            got=", ".join(there),
            fix="name another folder, or let these files be replaced: --replace; a test.jsonl stays with --test 0",
        )


def _read_beside(path: Path) -> tuple[Tool, ...]:
    beside = path.parent / "tools.json"
    return read_tools(beside) if beside.is_file() else ()


def _find_shared(tools: Mapping[Path, tuple[Tool, ...]], folder: Path) -> tuple[Tool, ...]:
    """The tools of the new folder's ``tools.json``: those that lie beside the sources."""
    there = folder / "tools.json"
    different = {path: found for path, found in tools.items() if found}
    if there.is_file():
        different[there] = read_tools(there)
    first = next(iter(different.values()), ())
    other = next((path for path, found in different.items() if found != first), None)
    if other is not None:
        raise UsageError(
            "the tools beside the files are different",
            where=other,
            expected=f"those beside {next(iter(different))}",
            fix='divide them one by one, into folders of their own, or write "tools" into the lines',
        )
    return first


def _rows(number: int, line: DataLine, by: str) -> Iterator[Row]:
    """What a line is to the families."""
    assert line.trajectory is not None
    called = _list_called(line.trajectory)
    if by == "tool" and called:
        for name in called:
            yield number, digest(name), 0, CALLED, name
        return
    wording = fold_wording(line.trajectory)
    requests = [fold(message.content) for message in line.trajectory.messages if message.role == "user"]
    family = read_family(line) or "\0".join(["", wording or "\n".join(requests)])
    tool = called[0] if called else RESPOND.name
    yield number, digest(family), digest(wording) if wording else 0, tool, tool


def _list_called(trajectory: Trajectory) -> list[str]:
    """The tools that are called and learned, the first one first."""
    calls = [call for message in trajectory.messages if message.weight for call in message.tool_calls]
    return list(dict.fromkeys(find_called_tool(call, trajectory.tools).full_name for call in calls))


def _write(sources: Sequence[Path], folder: Path, shares: Iterable[str], families: Families) -> dict[str, int]:
    """Write the lines into the files of their splits; how many each has."""
    lines: Counter[str] = Counter()
    with ExitStack() as stack:
        files = {
            split: stack.enter_context((folder / f"{split}.jsonl").open("wb"))
            for split in SPLITS
            if split in ("train", *shares)
        }
        blocks = (block for path in sources for block in iter_blocks(path))
        whole = (line for block in blocks for _, line in read_block(block))
        for line, split in zip(whole, families.iter_splits(), strict=True):
            files[split].write(line.rstrip(b"\r") + b"\n")
            lines[split] += 1
    return dict(lines)
