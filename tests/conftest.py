"""Before any test module can import MLX: on Linux the package puts OpenBLAS in the process first."""

import gc

import dualtune_mlx  # noqa: F401


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no engine that closes has to look through it for garbage."""
    gc.collect()
    gc.freeze()
