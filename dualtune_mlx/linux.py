"""Makes MLX fast on Linux. On macOS, nothing here does anything.

MLX's wheel for Linux has the reference BLAS. An OpenBLAS that is loaded before MLX takes its place, and matrix products
become about 75 times faster. An OpenBLAS that is older than the processor takes it for one without AVX, which is five
times slower: so it is told whose kernels to take. glibc gives each large buffer back to the kernel at once, so that
each operation pays for fresh pages. A process that keeps its buffers trains a fifth faster.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

OPENBLAS = "libopenblas.so.0"
OPENBLAS_CORE = "OPENBLAS_CORETYPE"
"""The variable that tells OpenBLAS which processor's kernels to take."""
CORES: Mapping[str, str] = {"avx512bw": "SkylakeX", "avx2": "Haswell"}
"""By instruction set, the best one first, the processor that has the kernels for it."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def load_openblas() -> bool:
    """Load OpenBLAS into this process, and return whether that was done.

    It is done on Linux, if OpenBLAS is installed and MLX is not loaded yet.
    """
    if sys.platform != "linux" or "mlx.core" in sys.modules:
        return False
    with suppress(OSError):  # where there is no /proc, OpenBLAS decides
        if core := _find_core(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")):
            os.environ.setdefault(OPENBLAS_CORE, core)
    try:
        ctypes.CDLL(OPENBLAS, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _find_core(cpuinfo: str) -> str | None:
    """Whose kernels a processor runs, by its flags in ``/proc/cpuinfo``; None where OpenBLAS decides."""
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    return next((core for instructions, core in CORES.items() if instructions in flags), None)


def openblas_is_loaded() -> bool:
    """Whether OpenBLAS is loaded in this process; False on other systems than Linux."""
    if sys.platform != "linux":
        return False
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        return any("openblas" in line for line in maps)


def give_back_freed_memory() -> None:
    """Give the memory that this process has freed back to the system, where it runs on glibc.

    glibc keeps freed buffers below one that is in use: hundreds of MiB of a model that is gone.
    """
    if trim := _find_in_libc("malloc_trim"):
        trim(0)


def keep_freed_memory() -> None:
    """Let this process keep freed buffers for reuse, where it runs on glibc.

    Only a program that does nothing but run models should call this, because it keeps the memory.
    """
    if mallopt := _find_in_libc("mallopt"):
        for option, value in (
            (M_MMAP_MAX, 0),
            (M_TRIM_THRESHOLD, 2**31 - 1),
            (M_TOP_PAD, 2**28),
            (M_ARENA_MAX, 1),
        ):
            mallopt(option, value)


def _find_in_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None on other systems than Linux, and where the library has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
