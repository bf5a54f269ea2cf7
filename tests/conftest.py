"""Before any test module can import MLX: on Linux the package puts OpenBLAS in the process first."""

import gc
import os

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Every core has a worker, and more threads than cores wait for each other longer than they compute. On Linux the
    # threads of a worker take turns on its core, and one that is woken (for each operation) does not interrupt.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if 0 < len(cores) <= int(os.environ["PYTEST_XDIST_WORKER_COUNT"]):
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

import dualtune_mlx  # noqa: F401

os.fsync = lambda file: None  # nothing that a test writes has to outlive a power failure
gc.disable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no engine that closes has to look through it for garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)
