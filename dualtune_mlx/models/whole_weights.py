"""The hash of all of a model's weights. It takes seconds a gigabyte, so it is kept while its files stay the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from mlx.utils import tree_flatten

from dualtune_mlx.errors import ModelError, UsageError
from dualtune_mlx.files import write_json
from dualtune_mlx.models.base_model import WRAPPED
from dualtune_mlx.paths import cache_folder

KEPT = "weights.json"
"""The file in the cache folder: for each model folder its files' sizes and times, and the hash."""
LEAST = 2**26
"""Bytes of a model's files from which on its hash is kept."""


def hash_weights(model: nn.Module) -> str:
    """The SHA-256 of every weight's name, shape, type and values, in hexadecimal digits."""
    digest = hashlib.sha256()
    weights: dict[str, mx.array] = tree_flatten(model.parameters(), destination={})  # type: ignore[assignment]
    for path in sorted(weights, key=lambda path: WRAPPED.sub(".", path)):
        name, array = WRAPPED.sub(".", path), weights[path]
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(memoryview(array.reshape(-1).view(mx.uint8)))  # type: ignore[arg-type]
    return digest.hexdigest()


def hash_loaded(folder: Path, model: nn.Module) -> str:
    """The hash of the weights that were loaded from a folder: the one that was kept, where no file has changed since.

    Raises:
        ModelError: when a file of a model that this package has converted has changed.
    """
    place, kept = str(folder.resolve()), _read_kept()
    files = _list_files(folder)
    now = {"files": files, "reader": f"mlx-lm {mlx_lm.__version__}"}
    before = kept.get(place, {})
    if now.items() <= before.items():
        return str(before["sha256"])
    found = hash_weights(model)
    if before.get("reader") == now["reader"] and before["sha256"] != found and _is_converted(folder):
        raise ModelError(
            "a converted model is not as it was written",
            where=folder,
            got=found[:12],
            expected=str(before["sha256"])[:12],
            fix="remove this folder; the model is converted again",
        )
    if sum(size for size, _ in files.values()) >= LEAST or _is_converted(folder):
        there = {name: one for name, one in kept.items() if Path(name).is_dir()}
        with suppress(UsageError):  # a folder that cannot be written: it is hashed again the next time
            write_json(cache_folder() / KEPT, {**there, place: {**now, "sha256": found}})
    return found


def _list_files(folder: Path) -> dict[str, list[int]]:
    """The size in bytes and the time in nanoseconds of each file that the weights depend on."""
    stats = {path.name: path.stat() for path in (folder / "config.json", *folder.glob("model*.safetensors"))}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in sorted(stats.items())}


def _read_kept() -> dict[str, Mapping[str, Any]]:
    """What was kept; nothing, where the file or the cache folder cannot be used."""
    with suppress(OSError, ValueError, AttributeError, UsageError):
        kept = json.loads((cache_folder() / KEPT).read_text(encoding="utf-8"))
        return {name: one for name, one in kept.items() if {"files", "reader", "sha256"} <= one.keys()}
    return {}


def _is_converted(folder: Path) -> bool:
    with suppress(UsageError):
        return folder.resolve().is_relative_to((cache_folder() / "models").resolve())
    return False
