"""Contexts' keys and values, kept from one epoch to the next and from one stage to another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from dualtune_mlx.kv import BatchOverPrefix, Snapshot
from dualtune_mlx.kv.batch import Pair
from dualtune_mlx.models import BaseModel


class ContextCache:
    """Keeps contexts while they fit ``budget`` bytes; the others are computed again whenever they are needed.

    None is put out for another: epochs go around, and the one used least recently is the next one needed. Each is
    computed by itself, so that a resumed run, which meets it in another batch, has the same bits.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.nbytes = 0
        self.hits = self.misses = 0
        self._kept: dict[bytes, list[Pair]] = {}

    def padded(self, base: BaseModel, prefix: Snapshot | None, contexts: Sequence[Sequence[int]]) -> list[Pair]:
        """Keys and values (contexts, kv heads, longest, width) after the prefix, a pair a layer, right-padded."""
        found = [self._layers(base, prefix, context) for context in contexts]
        longest = max(map(len, contexts))
        return [(_stack(pairs, 0, longest), _stack(pairs, 1, longest)) for pairs in zip(*found, strict=True)]

    def _layers(self, base: BaseModel, prefix: Snapshot | None, context: Sequence[int]) -> list[Pair]:
        key = _key(base, prefix, context)
        if key in self._kept:
            self.hits += 1
            return self._kept[key]
        self.misses += 1
        caches = [BatchOverPrefix(layer, keep=True) for layer in prefix_layers(base, prefix)]
        with base.bank.overriding({}):
            base.hidden(mx.array([list(context)]), caches)
        layers = [cache.new_tokens for cache in caches]
        mx.eval(layers)
        size = sum(array.nbytes for pair in layers for array in pair)
        if self.nbytes + size <= self.budget:
            self._kept[key] = layers
            self.nbytes += size
        return layers


def prefix_layers(base: BaseModel, prefix: Snapshot | None) -> Sequence[Pair | None]:
    """The prefix's keys and values, a pair a layer; None for each where there is no prefix."""
    return prefix.layers if prefix else [None] * base.bank.num_layers


def _key(base: BaseModel, prefix: Snapshot | None, context: Sequence[int]) -> bytes:
    digest = hashlib.sha256(base.fingerprint.encode())
    for tokens in (prefix.tokens if prefix else (), context):
        digest.update(np.array([len(tokens), *tokens], dtype=np.int64).tobytes())
    return digest.digest()


def _stack(pairs: Sequence[Pair], which: int, longest: int) -> mx.array:
    arrays = [pair[which] for pair in pairs]
    return mx.concatenate([mx.pad(a, [(0, 0), (0, 0), (0, longest - a.shape[2]), (0, 0)]) for a in arrays])
