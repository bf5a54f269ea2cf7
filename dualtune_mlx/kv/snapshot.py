"""A model's keys and values of a token sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from dualtune_mlx.kv.batch import Pair

Layers = tuple[Pair, ...]
"""Keys and values, a pair a layer, each (1, kv heads, tokens, head width)."""
Form = tuple[tuple[int, int, mx.Dtype], ...]
"""What a model keeps of a token: kv heads, head width and type of each layer's keys, then of its values."""


@dataclass(frozen=True)
class Snapshot:
    """Keys and values of some tokens, in pieces that follow each other.

    A fresh snapshot is one piece; one found in a ``PrefixCache`` has a piece for each part of its tree. The last
    piece may hold more tokens than these.
    """

    tokens: tuple[int, ...]
    pieces: tuple[Layers, ...]

    @classmethod
    def of(cls, tokens: tuple[int, ...], caches: list[KVCache]) -> Snapshot:
        """The state of caches that have just processed these tokens."""
        # Slices: a cache that is exactly full gives its own arrays, and would write into them once trimmed.
        pairs = (cache.keys_and_values() for cache in caches)
        layers = tuple((keys[..., : len(tokens), :], values[..., : len(tokens), :]) for keys, values in pairs)
        mx.eval(layers)
        return cls(tokens, (layers,))

    @property
    def layers(self) -> Layers:
        """A pair a layer, each (1, kv heads, tokens, head width); only several pieces have to be copied for it."""
        return tuple(
            (_joined([keys for keys, _ in pairs], len(self.tokens)), _joined([v for _, v in pairs], len(self.tokens)))
            for pairs in zip(*self.pieces, strict=True)
        )

    @property
    def form(self) -> Form:
        arrays = [array for pair in self.pieces[0] for array in pair]
        return tuple((array.shape[1], array.shape[3], array.dtype) for array in arrays)

    @property
    def bytes_per_token(self) -> int:
        return sum(heads * width * dtype.size for heads, width, dtype in self.form)

    def caches(self, length: int) -> list[KVCache]:
        """Fresh mlx-lm caches that hold the first ``length`` tokens; the snapshot stays as it is.

        The one copy that is made joins the pieces and leaves room for what follows.
        """
        return [_cache(pairs, length) for pairs in zip(*self.pieces, strict=True)]


def owned(layers: Layers, start: int, end: int) -> Layers:
    """Some tokens of layers, row by row in arrays of their own: a slice would keep the whole buffer alive."""
    part = tuple(
        (mx.contiguous(keys[..., start:end, :]), mx.contiguous(values[..., start:end, :])) for keys, values in layers
    )
    mx.eval(part)
    return part


def _cache(pairs: Sequence[Pair], length: int) -> KVCache:
    cache = KVCache()
    if length:
        keys = _joined([keys for keys, _ in pairs], length, KVCache.step)
        values = _joined([values for _, values in pairs], length, KVCache.step)
        cache.state = (keys, values, length)
    return cache


def _joined(arrays: Sequence[mx.array], length: int, room: int = 0) -> mx.array:
    """The first ``length`` tokens (axis 2) of arrays that follow each other, and zeros for ``room`` more."""
    parts = []
    for array in arrays:
        part = array[..., :length, :]
        parts.append(part)
        length -= part.shape[2]
    if room:
        _, heads, _, width = arrays[0].shape
        parts.append(mx.zeros((1, heads, room, width), arrays[0].dtype))
    return mx.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]
