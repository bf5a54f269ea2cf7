"""A cache of contexts: base-model keys and values that serve several epochs, and several stages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from dualtune_mlx.kv import BatchOverPrefix, KeysValues, Snapshot
from dualtune_mlx.models import BaseModel


class ContextCache:
    """Keeps the keys and values of contexts, up to ``budget`` bytes. Other contexts are computed whenever needed.

    A context that is kept stays: each epoch needs every context again, so no other one deserves its place more. Each
    context is computed by itself, so that its bits do not depend on its batch, which differs in a resumed run.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.nbytes = 0
        self.hits = self.misses = 0
        self._kept: dict[bytes, list[KeysValues]] = {}

    def load_padded(
        self, base: BaseModel, prefix: Snapshot | None, contexts: Sequence[Sequence[int]]
    ) -> list[KeysValues]:
        """Load the contexts' keys and values after the prefix, a pair for each layer; what is missing is computed.

        Each array has the shape (contexts, kv heads, longest, head size) and is padded at the right.
        """
        found = [self._of_context(base, prefix, context) for context in contexts]
        longest = max(map(len, contexts))
        return [(_stack(pairs, 0, longest), _stack(pairs, 1, longest)) for pairs in zip(*found, strict=True)]

    def _of_context(self, base: BaseModel, prefix: Snapshot | None, context: Sequence[int]) -> list[KeysValues]:
        key = _key(base, prefix, context)
        if key in self._kept:
            self.hits += 1
            return self._kept[key]
        self.misses += 1
        caches = [BatchOverPrefix(layer, keep=True) for layer in prefix_layers(base, prefix)]
        with base.bank.overriding({}):
            base.hidden(mx.array([list(context)]), caches)
        layers = [cache.new_keys_values for cache in caches]
        mx.eval(layers)
        size = sum(array.nbytes for pair in layers for array in pair)
        if self.nbytes + size <= self.budget:
            self._kept[key] = layers
            self.nbytes += size
        return layers


def prefix_layers(base: BaseModel, prefix: Snapshot | None) -> Sequence[KeysValues | None]:
    """The prefix's keys and values, a pair for each layer; None for each where there is no prefix."""
    return prefix.layers if prefix else [None] * base.bank.num_layers


def _key(base: BaseModel, prefix: Snapshot | None, context: Sequence[int]) -> bytes:
    digest = hashlib.sha256(base.fingerprint.encode())
    for tokens in (prefix.tokens if prefix else (), context):
        digest.update(np.array([len(tokens), *tokens], dtype=np.int64).tobytes())
    return digest.digest()


def _stack(pairs: Sequence[KeysValues], which: int, longest: int) -> mx.array:
    """The keys (``which`` 0) or values (1) of several contexts as one array."""
    arrays = [pair[which] for pair in pairs]
    return mx.concatenate([mx.pad(a, [(0, 0), (0, 0), (0, longest - a.shape[2]), (0, 0)]) for a in arrays])
