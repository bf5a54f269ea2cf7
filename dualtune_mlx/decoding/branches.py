"""Branches: continuations of one sequence, computed together, of which each token is computed once.

The branches are a tree. A row of the batch is a piece of one that is not known yet; it sees the sequence, the pieces
that it continues, and itself. Keys and values of all pieces lie in line behind the sequence's own, which stay where
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """The tokens (rows, length) of some pieces, padded on the right, their caches, and each row's own length."""

    tokens: mx.array
    caches: list[Layer]
    lengths: list[int]


class Branches:
    """The tree of branches over a model's caches.

    Args:
        caches: a cache a layer, all of which hold the same sequence.
        path: tokens at its end; every branch begins with them.
    """

    def __init__(self, caches: Sequence[KVCache], path: Tokens) -> None:
        self._caches = caches
        self._begin = caches[0].offset - len(path)
        self._positions = np.arange(caches[0].offset)
        self._slots = {path: self._positions}
        """Where the keys lie that the last token of a path sees."""

    def grow(self, paths: Sequence[Tokens]) -> Batch:
        """What is new in some paths, none of which is known; each comes after those that it continues."""
        stems, known = [], set(self._slots)
        for path in paths:
            stems.append(next(path[:n] for n in reversed(range(len(path))) if path[:n] in known))
            known.add(path)
        pieces = [path[len(stem) :] for path, stem in zip(paths, stems, strict=True)]
        length = max(map(len, pieces))
        rows = self._rows(stems, pieces, length)
        tokens = mx.array([[*piece, *[0] * (length - len(piece))] for piece in pieces])
        return Batch(tokens, [Layer(cache, rows) for cache in self._caches], [len(piece) for piece in pieces])

    def _rows(self, stems: Sequence[Tokens], pieces: Sequence[Tokens], length: int) -> Rows:
        before = len(self._positions)
        starts = np.array([self._begin + len(stem) for stem in stems])
        positions = starts[:, None] + np.arange(length)
        self._positions = np.append(self._positions, positions)
        sees = np.zeros((len(pieces), length, len(self._positions)), dtype=bool)
        for row, (stem, piece) in enumerate(zip(stems, pieces, strict=True)):
            own = before + row * length + np.arange(length)
            sees[row][:, self._slots[stem]] = True
            sees[row][:, own] = np.tri(length, dtype=bool)
            self._slots[stem + piece] = np.append(self._slots[stem], own[: len(piece)])
        return Rows(mx.array(starts), sees, positions[:, :, None] - self._positions)


@dataclass(frozen=True)
class Rows:
    """What a batch's layers have in common: (rows,) first positions; (rows, length, slots) who sees whom, how far."""

    starts: mx.array
    sees: np.ndarray
    distances: np.ndarray


class Layer:
    """One layer's cache while a batch of pieces is computed."""

    def __init__(self, cache: KVCache, rows: Rows) -> None:
        self._cache = cache
        self._rows = rows

    @property
    def offset(self) -> mx.array:
        """The position of each row's first token."""
        return self._rows.starts

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append each (rows, kv heads, length, width) in one line; views of the whole line for every row."""
        rows = keys.shape[0]
        lines = self._cache.update_and_fetch(_in_line(keys), _in_line(values))
        keys, values = (mx.broadcast_to(line, (rows, *line.shape[1:])) for line in lines)
        return keys, values

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        """True where a token (axis 2) may look: (rows, 1, length, slots)."""
        del length, return_array
        sees = self._rows.sees
        if window_size is not None:
            sees = sees & (self._rows.distances < window_size)
        return mx.array(sees[:, None])


def _in_line(array: mx.array) -> mx.array:
    """Rows (rows, kv heads, length, width) one behind the other: (1, kv heads, rows x length, width)."""
    _, heads, _, width = array.shape
    return array.transpose(1, 0, 2, 3).reshape(1, heads, -1, width)
