"""Branches: continuations of one sequence, computed together, of which each token is computed once.

The branches are a tree. A row of the batch is a piece of one that is not known yet; it sees the sequence, the pieces
that it continues, and itself. Keys and values of all pieces lie in line behind the sequence's own, which stay where
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

from dualtune_mlx.kv.batch import Pair

Tokens = tuple[int, ...]


@dataclass(eq=False)
class TreeNode:
    """A piece of the tree: what it continues, its own tokens, and the position behind the last of them.

    ``slots`` are where in the line the keys lie that its last token sees, once the piece is computed.
    """

    stem: TreeNode | None
    tokens: Tokens
    end: int
    slots: np.ndarray = field(default_factory=lambda: np.arange(0))

    def then(self, tokens: Sequence[int]) -> TreeNode:
        """A new piece behind this one."""
        return TreeNode(self, tuple(tokens), self.end + len(tokens))


@dataclass(frozen=True)
class Batch:
    """The tokens (rows, length) of some pieces, padded on the right, their caches, and each row's own length."""

    tokens: mx.array
    caches: list[Layer]
    lengths: list[int]


class TokenTree:
    """The tree of branches behind the sequence that a model's caches hold, one a layer: the ``trunk``."""

    def __init__(self, caches: Sequence[KVCache]) -> None:
        self._caches = caches
        self._positions = np.arange(caches[0].offset)
        self.trunk = TreeNode(None, (), caches[0].offset, self._positions)

    def grow(self, branches: Sequence[TreeNode]) -> Batch:
        """Pieces that are to be computed now; each comes after the one that it continues."""
        length = max(len(branch.tokens) for branch in branches)
        rows = self._rows(branches, length)
        tokens = mx.array([[*branch.tokens, *[0] * (length - len(branch.tokens))] for branch in branches])
        return Batch(tokens, [Layer(cache, rows) for cache in self._caches], [len(one.tokens) for one in branches])

    def graft(self, tokens: Sequence[int], layers: Sequence[Pair]) -> TreeNode:
        """A branch from the trunk whose keys and values, each (1, kv heads, tokens, width), are known already."""
        for cache, (keys, values) in zip(self._caches, layers, strict=True):
            cache.update_and_fetch(keys, values)
        branch = self.trunk.then(tokens)
        branch.slots = np.append(self.trunk.slots, len(self._positions) + np.arange(len(tokens)))
        self._positions = np.append(self._positions, self.trunk.end + np.arange(len(tokens)))
        return branch

    def _rows(self, branches: Sequence[TreeNode], length: int) -> Rows:
        before = len(self._positions)
        starts = np.array([branch.end - len(branch.tokens) for branch in branches])
        positions = starts[:, None] + np.arange(length)
        self._positions = np.append(self._positions, positions)
        sees = np.zeros((len(branches), length, len(self._positions)), dtype=bool)
        for row, branch in enumerate(branches):
            assert branch.stem is not None, "the trunk is computed already"
            own = before + row * length + np.arange(length)
            sees[row][:, branch.stem.slots] = True
            sees[row][:, own] = np.tri(length, dtype=bool)
            branch.slots = np.append(branch.stem.slots, own[: len(branch.tokens)])
        return Rows(mx.array(starts), sees, positions[:, :, None] - self._positions)


class TreePaths:
    """Branches by the tokens that lead to them, so that what several paths share is computed once."""

    def __init__(self, path: Tokens, branch: TreeNode) -> None:
        self._branches = {path: branch}

    def add(self, path: Tokens) -> TreeNode:
        """A new branch, which continues the longest one that is a beginning of it."""
        stem = next(path[:n] for n in reversed(range(len(path))) if path[:n] in self._branches)
        self._branches[path] = self._branches[stem].then(path[len(stem) :])
        return self._branches[path]


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
