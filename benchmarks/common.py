"""What every benchmark shares: ratios, the value it reports, what it was measured on, and how it is printed.

A ratio is ours over the peer's: for speed more than 1 is better, for time and memory less.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dualtune_mlx import linux
from dualtune_mlx.files import parse_json, read_text, write_json

GIB = 2**30
BUSY = 0.25
"""Programs that run or wait to run, a core: from this load average on, a machine is called busy."""


@dataclass(frozen=True)
class Goal:
    """What a ratio's median should be."""

    limit: float
    """The most that it may be."""
    at_least: bool = False
    """Whether ``limit`` is the least instead: of speeds."""

    def __str__(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"

    def is_reached(self, value: float) -> bool:
        """Whether a value is on the right side of the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


def key_of(*decides: Any) -> str:
    """Changes when anything of this changes, which decides the figures; all of it is JSON."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]


def keep(path: Path, key: str, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What a file keeps of a measurement. It is made unless the file has it, with this key."""
    if path.exists():
        kept = parse_json(read_text(path), "what was kept of a measurement is not JSON", path)
        if kept["key"] == key:
            found: dict[str, Any] = kept["measured"]
            return found
    measured = dict(measure())
    write_json(path, {"key": key, "measured": measured})
    return measured


def run(benchmark: str, quick: bool, out: Console, **given: Any) -> dict[str, Any]:
    """Run a benchmark's module; a busy machine is said at once, and its load is among the value's machine facts.

    Args:
        benchmark: the module's name.
        quick: whether it takes minutes, with fewer repetitions.
        out: where it prints.
        given: what this benchmark alone takes.
    """
    load = load_at_start()
    if load["busy"]:
        out.print(
            f"The machine is busy: load average {load['load_average']:.1f} on {os.cpu_count()} cores. "
            "Its figures are worth less; close other programs, and measure again.",
            markup=False,
        )
    value: dict[str, Any] = import_module(f"dualtune_mlx.benchmarks.{benchmark}").run(quick, out, **given)
    return {**value, "machine": {**value["machine"], **load}}


def load_at_start() -> dict[str, Any]:
    """The load average of the last minute, and whether other programs then leave too little of the machine."""
    load = os.getloadavg()[0]
    return {"load_average": round(load, 2), "busy": load > BUSY * (os.cpu_count() or 1)}


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


def format_spread(found: Mapping[str, float], form: str = ".3g") -> str:
    """The median, and the least and the greatest in brackets."""
    middle, least, greatest = (format(found[name], form) for name in ("median", "min", "max"))
    return f"{middle} ({least} to {greatest})" if found["min"] < found["max"] else middle


def format_ratio(found: Mapping[str, float]) -> str:
    """A ratio with its spread, and what forbids to conclude from it."""
    doubt = ", measured once" if found["n"] == 1 else ""
    if found["min"] < 1 < found["max"]:
        doubt += ", not decided"
    return format_spread(found) + doubt


def print_ratios(out: Console, ratios: Mapping[str, Mapping[str, float]]) -> None:
    """Print all ratios with their spread."""
    out.print("Ratios: of the medians; in brackets the least and the greatest of all pairs.", markup=False)
    for name, found in ratios.items():
        out.print(f"{name}: {format_ratio(found)}", markup=False)


def print_goals(out: Console, ratios: Mapping[str, Mapping[str, float]], goals: Mapping[str, Goal]) -> None:
    """Print for each goal whether the ratio's median reaches it."""
    for name, goal in goals.items():
        found = ratios.get(name)
        words = "NOT measured"
        if found:
            words = f"{'reached' if goal.is_reached(found['median']) else 'NOT reached'}: {found['median']:.3g}"
        out.print(f"goal {name} {goal}: {words}", markup=False)


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
