"""Before any test module can import MLX: on Linux the package puts OpenBLAS in the process first."""

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Every core has a worker: what more threads than cores wait for each other costs more than they compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dualtune_mlx  # noqa: F401

os.fsync = lambda file: None  # nothing that a test writes has to outlive a power failure
gc.disable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no engine that closes has to look through it for garbage."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)
