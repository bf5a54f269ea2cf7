"""The base model: one resident network that every stage and every adapter shares."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache
from numpy.typing import NDArray

from dualtune_mlx.adapters import Adapter, AdapterBank, FusionCache
from dualtune_mlx.concurrency import FairLock
from dualtune_mlx.errors import ModelError
from dualtune_mlx.kv import Snapshot
from dualtune_mlx.models.support import check_supported, context_length, language_model

FUSED_BUDGET = 2**30
"""Bytes that fused weights may take. An adapter that needs more always acts low-rank."""
PREFILL_CHUNK = 512
"""Tokens that ``prefill`` processes at a time."""
EMBEDDED_TOKENS, EMBEDDED_CHARACTERS = 96, 2000
"""Tokens of a text that ``embed`` looks at, and characters that it encodes for them."""
SAMPLES = 64
"""Values of each weight that enter a fingerprint."""
WRAPPED = re.compile(r"\.(linear|layer)\.")
"""What an adapter layer adds to the path of the weights that it wraps."""


@dataclass
class BaseModel:
    """A resident model with its tokenizer, its adapters and their fused weights.

    Any number of engines may share it, from any threads. One adapter is active at a time, so ``lock`` gives the
    threads their turns. ``acquire`` and ``release`` count who needs an adapter.
    """

    name: str
    """What ``load_model`` was given."""
    model: nn.Module
    """mlx-lm's network. Its linear layers are wrapped into adapter layers."""
    tokenizer: Any
    """The Hugging Face tokenizer."""
    fuse_to: str | None = None
    """The type of fused weights, as in ``FusionCache``. A quantised model has none without it."""
    exact_length: int | None = None
    """The longest sequence, in tokens, that mlx-lm computes as the model's configuration says; None: any."""
    weights: str = ""
    """The hash of all weights (``hash_weights``); "" where it is not known."""
    bank: AdapterBank = field(init=False)
    """The resident adapters."""
    fusion: FusionCache = field(init=False)
    """The fused weights of resident adapters."""
    fingerprint: str = field(init=False)
    """See ``fingerprint``."""
    lock: FairLock = field(init=False, repr=False, compare=False, default_factory=FairLock)
    """Whose turn it is to use the model."""
    _holders: Counter[str] = field(init=False, repr=False, compare=False, default_factory=Counter)
    _limits: list[int] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        check_supported(self.name, self.model)
        self._check_tokenizer()
        # Only the thread that made a lazy array can evaluate it. Rotary frequencies are no parameters.
        mx.eval([value for module in self.model.modules() for value in module.values() if isinstance(value, mx.array)])
        self.fingerprint = fingerprint(self.model)
        self.bank = AdapterBank(self.model)
        self.fusion = FusionCache(self.bank, FUSED_BUDGET, fuse_to=self.fuse_to)

    def _check_tokenizer(self) -> None:
        """Refuse a tokenizer whose ordinary tokens have no embedding; added ones may be for nothing."""
        tokens = self.tokenizer.vocab_size
        if tokens > self.vocabulary:
            raise ModelError(
                "the tokenizer is not the model's",
                where=self.name,
                got=f"{tokens} tokens, and an embedding of {self.vocabulary}",
                fix="use the tokenizer's files that came with the model",
            )

    @property
    def context_length(self) -> int | None:
        """The longest sequence, in tokens, that the model was made for and mlx-lm computes exactly.

        None where neither is known.
        """
        return context_length(self.model, self.exact_length)

    @property
    def language_model(self) -> nn.Module:
        """The language model: the model itself, or the one inside a multimodal checkpoint's wrapper."""
        return language_model(self.model)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model has an embedding of."""
        return int(self.language_model.model.embed_tokens.weight.shape[0])

    def acquire(self, adapter: Adapter) -> Adapter:
        """Make an adapter resident until everyone who acquired it has released it.

        Raises:
            AdapterError: when it does not fit the model.
        """
        was_resident = adapter.content_hash in {one.content_hash for one in self.bank.resident}
        resident = self.bank.load(adapter)
        mx.eval([update.parts for update in resident.updates.values()])  # here: other threads could not
        # An adapter that was in the bank before anyone acquired it belongs to whoever put it there: it stays.
        first = not self._holders[resident.content_hash]
        self._holders[resident.content_hash] += 2 if was_resident and first else 1
        return resident

    def release(self, adapter: Adapter) -> None:
        """Give back an adapter that was acquired. The last release frees its memory."""
        self._holders[adapter.content_hash] -= 1
        if not self._holders[adapter.content_hash]:
            del self._holders[adapter.content_hash]
            self.fusion.forget(adapter)
            self.bank.unload(adapter)

    def limit_fused(self, nbytes: int) -> None:
        """Limit the bytes of fused weights until ``unlimit_fused``. The lowest of all limits counts."""
        self._limits.append(nbytes)
        self.fusion.resize(min([FUSED_BUDGET, *self._limits]))

    def unlimit_fused(self, nbytes: int) -> None:
        """Take a limit back."""
        self._limits.remove(nbytes)
        self.fusion.resize(min([FUSED_BUDGET, *self._limits]))

    def new_caches(self) -> list[KVCache]:
        """Empty caches, one per layer. They keep every token, also those that a sliding window has passed.

        mlx-lm's own cache of a sliding-window layer drops tokens, so it cannot be trimmed or cut. With these caches
        the mask alone keeps the window.
        """
        return [KVCache() for _ in self.model.layers]

    def hidden(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        """The last layer's hidden states, normed: (batch, length, width) for tokens (batch, length).

        Raises:
            Cancelled: when the work whose turn it is has been asked to stop.
        """
        self.lock.check_cancelled()
        states: mx.array = self.language_model.model(tokens, cache)
        return states

    def embed(self, text: str) -> NDArray[np.float32]:
        """The mean of the embeddings of a text's first tokens, in lower case: (width,). It is no forward pass."""
        tokens = self.tokenizer.encode(f" {text[:EMBEDDED_CHARACTERS].lower()}", add_special_tokens=False)[
            :EMBEDDED_TOKENS
        ]
        embeddings = self.language_model.model.embed_tokens(mx.array([tokens or [0]]))
        return np.array(embeddings.astype(mx.float32).mean(1)[0])

    def prefill(self, tokens: Sequence[int], cache: list[Any]) -> None:
        """Process tokens in chunks, to fill the caches."""
        for start in range(0, len(tokens), PREFILL_CHUNK):
            self.hidden(mx.array([tokens[start : start + PREFILL_CHUNK]]), cache)
            mx.eval([layer.state for layer in cache])

    def snapshot(self, tokens: Sequence[int], adapter: str = "") -> Snapshot:
        """Compute the keys and values of a token sequence.

        Args:
            tokens: token ids.
            adapter: content hash of the resident adapter that acts on all of them; "" for the base weights alone.
        """
        updates = {one.content_hash: one.updates for one in self.bank.resident}[adapter] if adapter else {}
        caches = self.new_caches()
        with self.bank.overriding(updates):
            self.prefill(tokens, caches)
        return Snapshot.of(tuple(tokens), caches)

    def head(self, hidden: mx.array) -> mx.array:
        """Logits (…, vocabulary) of normed hidden states (…, width)."""
        text = self.language_model
        logits: mx.array = text.lm_head(hidden) if "lm_head" in text else text.model.embed_tokens.as_linear(hidden)
        return logits


def fingerprint(model: nn.Module) -> str:
    """A hash of every weight's name, shape and type, and of evenly spaced samples of its values.

    Raises:
        ModelError: when a sample is not a finite number.
    """
    digest = hashlib.sha256()
    weights: dict[str, mx.array] = tree_flatten(model.parameters(), destination={})  # type: ignore[assignment]
    for path in sorted(weights):
        name, array = WRAPPED.sub(".", path), weights[path]
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        flat = array.reshape(-1)
        samples = flat[:: max(1, flat.size // SAMPLES)][:SAMPLES]
        values = np.array(samples.astype(mx.float32))
        if not np.isfinite(values).all():
            raise ModelError("a model's weights are not finite numbers", where=name, fix="use a model that is whole")
        digest.update(values.tobytes())
    return digest.hexdigest()
