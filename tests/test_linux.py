"""What is done for MLX on Linux."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualtune_mlx import DualTune, linux
from tests import tiny

BLOCK, BLOCKS = 64 * 1024, 2048
"""Below the size from which glibc gives a block a mapping of its own: 128 MiB together."""


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_memory_that_was_freed_goes_back_to_the_system():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("the C library has no malloc_trim")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks[:-1]:  # the last one keeps the others from going back by themselves
        libc.free(block)
    kept = resident_bytes()
    linux.give_back_freed_memory()
    assert kept - resident_bytes() > BLOCK * BLOCKS * 0.9
    libc.free(blocks[-1])


def test_a_closed_engine_gives_freed_memory_back_once(monkeypatch):
    given_back = []
    monkeypatch.setattr(linux, "give_back_freed_memory", lambda: given_back.append(True))
    base = tiny.model()
    dualtune = DualTune(base, tiny.renderer(base))
    dualtune.close()
    dualtune.close()
    assert given_back == [True]


@pytest.mark.parametrize(
    ("flags", "core"),
    [("fpu avx avx2 avx512f avx512bw", "SkylakeX"), ("fpu avx avx2", "Haswell"), ("fpu avx", None), ("", None)],
)
def test_openblas_is_told_whose_kernels_the_processor_runs(flags, core):
    assert linux._find_core(f"processor\t: 0\nmodel name\t: new\nflags\t\t: {flags}\n") == core
    assert linux._find_core("Features\t: fp asimd\n") is None, "not every processor lists its flags so"


def test_without_proc_openblas_decides(monkeypatch):
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "mlx.core")
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: None)
    assert linux.load_openblas()


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux alone")
def test_what_the_user_says_of_the_kernels_counts():
    code = "import os, dualtune_mlx; print(os.environ.get('OPENBLAS_CORETYPE'))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENBLAS_CORETYPE": "Haswell"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "Haswell"
