"""A model's weights: their files are all there, and their types are those that a network computes with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.errors import ModelError

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TYPES = (mx.float32, mx.float16, mx.bfloat16)


def check_weight_files(folder: Path) -> None:
    """Refuse a model folder without weights, or without one of the files that its index names.

    Raises:
        ModelError: with what is missing.
    """
    missing = [name for name in _read_index(folder / INDEX) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            "files of a model's weights are missing",
            where=folder,
            got=f"no {', '.join(missing)}, which {INDEX} names",
            expected="all files that the index names",
            fix="download the model again, to the end",
        )
    if not any(folder.glob("model*.safetensors")):
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        raise ModelError(
            "the folder has no weights of a model",
            where=folder,
            got=", ".join(pickles) or None,
            expected="model.safetensors, or model-00001-of-….safetensors and the others",
            fix="save it again with transformers' save_pretrained, which writes safetensors" if pickles else None,
        )


def check_weight_types(where: Path, model: nn.Module) -> None:
    """Refuse weights that are no floating-point numbers; quantised layers' alone may be whole ones. None is read.

    Raises:
        ModelError: naming them.
    """
    odd = list(_find_odd_types(model))
    if odd:
        raise ModelError(
            "weights have a type that this model cannot be computed with",
            where=where,
            got=", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else ""),
            expected="float32, float16 or bfloat16, or layers that mlx-lm has quantised",
            fix="use the model's original weights, or those of mlx_lm.convert",
        )


def _find_odd_types(model: nn.Module) -> Iterator[str]:
    for path, module in model.named_modules():
        if hasattr(module, "bits"):
            continue
        for name, value in module.items():
            if isinstance(value, mx.array) and not name.startswith("_") and value.dtype not in TYPES:
                yield f"{path}.{name}: {str(value.dtype).removeprefix('mlx.core.')}"


def _read_index(path: Path) -> list[str]:
    """The names of the files in an index; none where there is no index."""
    if not path.is_file():
        return []
    try:
        return sorted({str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            "an index of weights cannot be read",
            where=path,
            got=repr(error),
            expected='{"weight_map": {WEIGHT: FILE, …}}',
            fix="download the model again",
        ) from error
