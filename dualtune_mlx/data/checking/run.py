"""The check of a data folder: its lines in several processes, then what is wrong between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dualtune_mlx.data.checking import comparison
from dualtune_mlx.data.checking.balance import find_imbalance
from dualtune_mlx.data.checking.counts import Counts, count_words
from dualtune_mlx.data.checking.kinds import KINDS, Finding
from dualtune_mlx.data.checking.line_checks import find_in_line
from dualtune_mlx.data.checking.prints import Print, print_line
from dualtune_mlx.data.checking.store import Store
from dualtune_mlx.data.lines import Block, iter_blocks, read_block, read_family, read_line
from dualtune_mlx.tools import Tool, Trajectory

SMALL = 4 * 2**20
"""Bytes of data below which further processes would only cost time."""


@dataclass(frozen=True)
class Length:
    """How long a line is, and how long it may be."""

    unit: str = "words"
    """What is counted."""
    window: int = 1_500
    """The longest that is trained whole; 0 for no limit. 1,500 words are about 2,048 tokens."""
    measure: Callable[[Trajectory], int] = count_words
    """Gives a trajectory's length. It goes to other processes, so it has to be picklable."""


@dataclass(frozen=True)
class _Task:
    """What a process needs to check lines."""

    tools: tuple[Tool, ...]
    length: Length


@dataclass
class BlockResult:
    """What was found in a block of lines."""

    findings: list[Finding] = field(default_factory=list)
    prints: list[Print] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


def check_lines(
    store: Store,
    files: dict[str, Path],
    tools: tuple[Tool, ...],
    length: Length,
    report: Callable[[int, int], None],
    processes: int | None = None,
) -> dict[str, Counts]:
    """Check all lines of files, and the files against each other.

    Args:
        store: keeps what is found.
        files: the files by their splits.
        tools: the visible tools of lines that have none of their own.
        length: how lines are measured.
        report: is called with the bytes that are done, and all.
        processes: how many check; one for each core where there is much to do.

    Returns:
        The counts of each split.
    """
    counts = {split: Counts() for split in files}
    total = sum(path.stat().st_size for path in files.values())
    done = 0
    with _checkers(_Task(tools, length), processes or (1 if total < SMALL else os.cpu_count() or 1)) as check:
        for split, path in files.items():
            seen = False
            for block, result in check(iter_blocks(path)):
                store.add_findings(result.findings)
                store.add_prints(split, path.name, result.prints)
                counts[split].add(result.counts)
                seen = seen or bool(result.findings or result.prints)
                done += block.size
                report(done, total)
            if not seen:
                fix = "write a conversation a line, or remove the file"
                store.add_findings([Finding(path.name, 0, "empty_file", "the file has no line", fix)])
    store.add_findings(comparison.find_duplicates(store))
    store.add_findings(comparison.find_near_duplicates(store))
    store.add_findings(comparison.find_contradictions(store))
    for column in ("wording", "family"):
        store.add_findings(comparison.find_shared(store, column))
    for split, path in files.items():
        if split not in ("valid", "test"):
            store.add_findings(find_imbalance(counts[split], path.name))
    return counts


def check_block(task: _Task, block: Block) -> BlockResult:
    """Check the lines of a block by themselves."""
    result = BlockResult()
    for number, data in read_block(block):
        line = read_line(number, data, task.tools)
        found = list(find_in_line(line, task.tools, block.path.name))
        result.findings += found
        if line.trajectory is None or any(KINDS[one.kind].is_error for one in found):
            continue  # a line that is wrong by itself is compared with no other
        length = task.length.measure(line.trajectory)
        if task.length.window and length > task.length.window:
            what = f"{length:,} {task.length.unit}; {task.length.window:,} are trained whole"
            fix = "shorten it: the oldest exchanges are left out of what is trained, or the line as a whole"
            result.findings.append(Finding(block.path.name, number, "too_long", what, fix))
        result.prints.append(print_line(number, line.trajectory, read_family(line)))
        result.counts.add_line(line.trajectory, length)
    return result


Checker = Callable[[Iterator[Block]], Iterator[tuple[Block, BlockResult]]]


@contextmanager
def _checkers(task: _Task, processes: int) -> Iterator[Checker]:
    """Give a function that checks blocks, in their order, by so many processes."""
    if processes == 1:
        yield lambda blocks: ((block, check_block(task, block)) for block in blocks)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield lambda blocks: _in_order(pool, task, blocks, 2 * processes)


def _in_order(
    pool: ProcessPoolExecutor, task: _Task, blocks: Iterator[Block], most: int
) -> Iterator[tuple[Block, BlockResult]]:
    """The results of blocks, of which at most so many are in work or wait."""
    waiting: list[tuple[Block, Future[Any]]] = []
    for block in blocks:
        waiting.append((block, pool.submit(check_block, task, block)))
        if len(waiting) == most:
            first, result = waiting.pop(0)
            yield first, result.result()
    for block, result in waiting:
        yield block, result.result()
