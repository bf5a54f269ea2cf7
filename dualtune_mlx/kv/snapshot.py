"""Base-model keys and values of a token sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache


@dataclass(frozen=True)
class Snapshot:
    """Keys and values of some tokens, a pair a layer, each (1, kv heads, tokens, head width)."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[mx.array, mx.array], ...]

    @classmethod
    def of(cls, tokens: tuple[int, ...], caches: list[KVCache]) -> Snapshot:
        """The state of caches that have just processed these tokens."""
        # Slices: a cache that is exactly full gives its own arrays, and would write into them once trimmed.
        pairs = (cache.keys_and_values() for cache in caches)
        layers = tuple((keys[..., : len(tokens), :], values[..., : len(tokens), :]) for keys, values in pairs)
        mx.eval(layers)
        return cls(tokens, layers)

    def caches(self, length: int) -> list[Any]:
        """Fresh mlx-lm caches that hold the first ``length`` tokens; the snapshot stays as it is."""
        caches = []
        for keys, values in self.layers:
            cache = KVCache()
            if length:
                # Exactly as long as its content: the first append allocates anew and never writes here.
                cache.state = (keys[..., :length, :], values[..., :length, :], length)
            caches.append(cache)
        return caches
