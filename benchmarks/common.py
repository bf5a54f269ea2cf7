"""What every benchmark shares: a fresh process for each measurement, ratios, and what it was measured on.

A ratio is ours over the peer's: for speed more than 1 is better, for time and memory less.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dualtune_mlx import linux
from dualtune_mlx.errors import TrainingError

P = ParamSpec("P")
T = TypeVar("T")

GIB = 2**30


def run_isolated(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run a function in a process of its own, without memory, caches or patched classes of earlier measurements.

    On Linux the process has OpenBLAS and keeps its freed memory, for our code and for a peer's.

    Raises:
        TrainingError: when the process is killed, usually for want of memory.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), linux.keep_freed_memory) as pool:
        try:
            return pool.submit(function, *arguments, **named).result()
        except BrokenProcessPool as error:
            raise TrainingError(
                "a measurement's process was killed, most likely because memory ran out",
                where=function.__name__,
                got=f"{memory() / GIB:.0f} GiB of memory in this machine",
                fix="close other programs, or measure on a machine with more memory",
            ) from error


def ratio(ours: Sequence[float], peers: Sequence[float]) -> dict[str, float]:
    """Ours over the peer's: the ratio of the medians, the smallest and largest of all pairs, and the smaller ``n``."""
    return {
        "median": median(ours) / median(peers),
        "min": min(ours) / max(peers),
        "max": max(ours) / min(peers),
        "n": min(len(ours), len(peers)),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum, maximum and number of the measurements."""
    return {"median": median(values), "min": min(values), "max": max(values), "n": len(values)}


def report(
    benchmark: str,
    rows: Sequence[Mapping[str, Any]],
    ratios: Mapping[str, Mapping[str, float]],
    counters: Mapping[str, Any],
) -> dict[str, Any]:
    """The value of a benchmark, with the versions and the machine it ran on."""
    return {
        "benchmark": benchmark,
        "versions": versions(),
        "machine": machine(),
        "rows": [dict(row) for row in rows],
        "ratios": {name: dict(value) for name, value in ratios.items()},
        "counters": dict(counters),
    }


def versions() -> dict[str, str]:
    """The versions that decide the figures: this package, MLX, mlx-lm, Python."""
    packages = {name: version(name) for name in ("dualtune-mlx", "mlx", "mlx-lm")}
    return {**packages, "python": platform.python_version()}


def machine() -> dict[str, Any]:
    """The machine, without anything that identifies its owner."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory() / GIB, 1),
        "device": "Metal" if mx.metal.is_available() else "CPU",
        "blas": _blas(),
    }


def memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def print_table(out: Console, title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    out.print(table)


def print_goals(out: Console, ratios: Mapping[str, Mapping[str, float]], goals: Mapping[str, float]) -> None:
    """Print all ratios with their spread, and for each goal whether the ratio is at most that."""
    for name, found in ratios.items():
        out.print(f"{name}: {found['median']:.3g} ({found['min']:.3g} to {found['max']:.3g})", markup=False)
    for name, goal in goals.items():
        words = "NOT measured"
        if name in ratios:
            got = ratios[name]["median"]
            words = f"{'reached' if got <= goal else 'NOT reached'}: {got:.3g}"
        out.print(f"goal {name} at most {goal:g}: {words}", markup=False)


def main(file: str) -> None:
    """Run a benchmark as a script: ``python benchmarks/NAME.py …`` is ``dualtune bench NAME …``."""
    from dualtune_mlx.cli import main as dualtune

    dualtune(["bench", Path(file).stem, *sys.argv[1:]])


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.processor())


def _blas() -> str:
    if sys.platform == "darwin":
        return "Accelerate"
    return "OpenBLAS" if linux.openblas_is_loaded() else "reference BLAS"
