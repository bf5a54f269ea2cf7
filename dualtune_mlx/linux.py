"""What MLX needs on Linux to be fast; on macOS nothing here does anything.

The Linux wheel of MLX bundles the reference BLAS; an OpenBLAS that is in the process before MLX is
loaded takes its place (about 75 times faster matrix products). glibc gives every large buffer back to
the kernel at once, so each operation pays for fresh pages; keeping them makes a training step a fifth
faster.
"""

from __future__ import annotations

import ctypes
import sys

LIBRARY = "libopenblas.so.0"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def load_openblas() -> bool:
    """Load OpenBLAS into the process if this is Linux, it is installed, and MLX is not loaded yet."""
    if sys.platform != "linux" or "mlx.core" in sys.modules:
        return False
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def openblas_is_loaded() -> bool:
    """Whether OpenBLAS is in this process (Linux only)."""
    if sys.platform != "linux":
        return False
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        return any("openblas" in line for line in maps)


def keep_freed_memory() -> None:
    """Let this process keep freed buffers for reuse (glibc only); for programs that only run models."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in (
            (M_MMAP_MAX, 0),
            (M_TRIM_THRESHOLD, 2**31 - 1),
            (M_TOP_PAD, 2**28),
            (M_ARENA_MAX, 1),
        ):
            mallopt(option, value)
