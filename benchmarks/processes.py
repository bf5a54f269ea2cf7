"""A fresh process for each measurement, and measurements in turn."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any, ParamSpec, TypeVar

from rich.console import Console

from dualtune_mlx import linux
from dualtune_mlx.benchmarks.common import GIB, memory
from dualtune_mlx.errors import TrainingError

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", str, tuple[str, str])


def run_isolated(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run a function in a process of its own, without memory, caches or patched classes of earlier measurements.

    On Linux the process has OpenBLAS and keeps its freed memory, for our code and for a peer's.

    Raises:
        TrainingError: when the process is killed, usually for want of memory.
    """
    with _new_process() as process:
        return _wait(process.submit(function, *arguments, **named), function.__name__)


def take_turns(rounds: int, methods: Mapping[K, Callable[[], Iterator[T]]], out: Console) -> dict[K, list[T]]:
    """Measure methods in turn, so that what slows the machine for a while slows all of them.

    Each has a process of its own, which waits while others measure.

    Args:
        rounds: how often each method is measured.
        methods: by name, what begins a method in its process: it gives a value for each round.
        out: a line is printed for every measurement.

    Returns:
        By name, the values of all rounds.

    Raises:
        TrainingError: when a process is killed, usually for want of memory.
    """
    found: dict[K, list[T]] = {name: [] for name in methods}
    with ExitStack() as processes:
        begun = {name: processes.enter_context(isolated_rounds(begin, name)) for name, begin in methods.items()}
        for number in range(1, rounds + 1):
            for name, values in begun.items():
                words = name if isinstance(name, str) else ", ".join(filter(None, name))
                out.print(f"round {number} of {rounds}: {words}", markup=False)
                found[name].append(next(values))
    return found


@contextmanager
def isolated_rounds(begin: Callable[[], Iterator[T]], name: object) -> Iterator[Iterator[T]]:
    """Run a generator in a process of its own: each value is computed when it is asked for."""
    with _new_process() as process:
        _wait(process.submit(_begin_rounds, begin), name)
        yield iter(lambda: _wait(process.submit(_next_round), name), object())


def _new_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _set_up)


def _set_up() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process: the first one says what is to be said
    linux.keep_freed_memory()


def _wait(value: Future[T], where: object) -> T:
    try:
        return value.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a measurement's process was killed, most likely because memory ran out",
            where=where,
            got=f"{memory() / GIB:.0f} GiB of memory in this machine",
            fix="close other programs, or measure on a machine with more memory",
        ) from error


_rounds: list[Iterator[Any]] = []
"""The generator of this process."""


def _begin_rounds(begin: Callable[[], Iterator[Any]]) -> None:
    _rounds.append(begin())


def _next_round() -> Any:
    return next(_rounds[0])
