"""Keys and values that tell whose they are: each token's depend on the model, the adapter and all tokens before it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from dualtune_mlx.kv import Snapshot

LAYERS, HEADS, WIDTH = 2, 2, 4
PER_TOKEN = 2 * LAYERS * HEADS * WIDTH * 4
"""Bytes of a token in float32."""


def fake(
    tokens: Sequence[int],
    whose: str = "",
    layers: int = LAYERS,
    heads: int = HEADS,
    width: int = WIDTH,
    dtype: mx.Dtype = mx.float32,
) -> Snapshot:
    """A snapshot of one piece, without a model."""
    pairs = []
    for layer in range(layers):
        pairs.append(tuple(_array(tokens, f"{whose}/{layer}/{part}", heads, width, dtype) for part in "kv"))
    return Snapshot(tuple(tokens), (tuple(pairs),))


def _array(tokens: Sequence[int], whose: str, heads: int, width: int, dtype: mx.Dtype) -> mx.array:
    states = [zlib.crc32(whose.encode())]
    for token in tokens:
        states.append(zlib.crc32(str(token).encode(), states[-1]))
    shifts = 8 * np.arange(heads)[:, None, None] + np.arange(width)
    values = ((np.array(states[1:], dtype=np.int64)[:, None] >> shifts) % 1000).astype(np.float32)[None]
    array = mx.contiguous(mx.array(values).astype(dtype))
    mx.eval(array)
    return array


def same(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots hold the same tokens, keys and values, bit for bit."""
    if (one.tokens, one.layout) != (other.tokens, other.layout):
        return False
    pairs = zip(one.layers, other.layers, strict=True)
    return all(bits(mine) == bits(its) for two in pairs for mine, its in zip(*two, strict=True))


def bits(array: mx.array) -> bytes:
    return np.array(mx.contiguous(array).view(mx.uint8)).tobytes()


def first(snapshot: Snapshot, length: int) -> Snapshot:
    """The beginning of a snapshot."""
    return Snapshot(snapshot.tokens[:length], snapshot.pieces)
