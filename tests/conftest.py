"""Before any test module can import MLX: on Linux the package puts OpenBLAS in the process first."""

import gc
import os

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Every core has a worker: what more threads than cores wait for each other costs more than they compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if 0 < len(cores) <= int(os.environ["PYTEST_XDIST_WORKER_COUNT"]):
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import dualtune_mlx  # noqa: F401

os.fsync = lambda file: None  # nothing that a test writes has to outlive a power failure
gc.disable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no engine that closes has to look through it for garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)
