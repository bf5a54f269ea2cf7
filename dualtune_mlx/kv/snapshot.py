"""A snapshot: the keys and values that a model computed for a token sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from dualtune_mlx.kv.batch import KeysValues

Layers = tuple[KeysValues, ...]
"""Keys and values of every layer, each (1, kv heads, tokens, head width)."""
Layout = tuple[tuple[int, int, mx.Dtype], ...]
"""What a model keeps of a token: kv heads, head width and type, first of a layer's keys, then of its values."""


@dataclass(frozen=True)
class Snapshot:
    """Keys and values of some tokens, in pieces that follow each other.

    A new snapshot is one piece. One that a ``PrefixCache`` found has a piece for each node of its tree.
    """

    tokens: tuple[int, ...]
    """The token ids."""
    pieces: tuple[Layers, ...]
    """The keys and values. The last piece may hold more tokens than ``tokens``."""

    @classmethod
    def of(cls, tokens: tuple[int, ...], caches: list[KVCache]) -> Snapshot:
        """The keys and values in caches that have just processed these tokens."""
        # Slices: a cache that is exactly full gives its own arrays, and would write into them once trimmed.
        pairs = (cache.keys_and_values() for cache in caches)
        layers = tuple((keys[..., : len(tokens), :], values[..., : len(tokens), :]) for keys, values in pairs)
        mx.eval(layers)
        return cls(tokens, (layers,))

    @property
    def layers(self) -> Layers:
        """All keys and values by layer. Nothing is copied where the snapshot is one piece."""
        return tuple(
            (
                _concatenate([keys for keys, _ in pairs], len(self.tokens)),
                _concatenate([v for _, v in pairs], len(self.tokens)),
            )
            for pairs in zip(*self.pieces, strict=True)
        )

    @property
    def layout(self) -> Layout:
        """Heads, width and type of the keys and values of every layer."""
        arrays = [array for pair in self.pieces[0] for array in pair]
        return tuple((array.shape[1], array.shape[3], array.dtype) for array in arrays)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        return sum(heads * width * dtype.size for heads, width, dtype in self.layout)

    def to_caches(self, length: int) -> list[KVCache]:
        """New mlx-lm caches that hold the first ``length`` tokens. The snapshot stays as it is.

        The one copy that is made joins the pieces and leaves room for what follows.
        """
        return [_new_cache(pairs, length) for pairs in zip(*self.pieces, strict=True)]


def copy_tokens(layers: Layers, start: int, end: int) -> Layers:
    """Copy some tokens into arrays of their own. A slice would keep the whole buffer alive."""
    part = tuple(
        (mx.contiguous(keys[..., start:end, :]), mx.contiguous(values[..., start:end, :])) for keys, values in layers
    )
    mx.eval(part)
    return part


def _new_cache(pairs: Sequence[KeysValues], length: int) -> KVCache:
    cache = KVCache()
    if length:
        keys = _concatenate([keys for keys, _ in pairs], length, KVCache.step)
        values = _concatenate([values for _, values in pairs], length, KVCache.step)
        cache.state = (keys, values, length)
    return cache


def _concatenate(arrays: Sequence[mx.array], length: int, room: int = 0) -> mx.array:
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
