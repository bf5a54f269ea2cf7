"""A token tree: continuations of one sequence that are computed together, each shared token once.

Each row of a batch is a node of the tree that is not computed yet. It sees the sequence, the nodes from the root to it,
and itself. The cache holds the keys and values of the sequence, and behind them those of all nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

from dualtune_mlx.kv.batch import KeysValues

Tokens = tuple[int, ...]


@dataclass(eq=False)
class TreeNode:
    """Some tokens, and the node that they continue."""

    parent: TreeNode | None
    """The node before it; None for the root."""
    tokens: Tokens
    """Its own tokens."""
    end: int
    """The position behind its last token."""
    visible_keys: np.ndarray = field(default_factory=lambda: np.arange(0))
    """The cache indices of the keys that its last token may look at, once it is computed (keys,)."""

    def extend(self, tokens: Sequence[int]) -> TreeNode:
        """A new node behind this one."""
        return TreeNode(self, tuple(tokens), self.end + len(tokens))


@dataclass(frozen=True)
class NodeBatch:
    """Some nodes as the rows of a forward pass."""

    tokens: mx.array
    """Token ids (rows, length), padded on the right."""
    caches: list[TreeCache]
    """The caches of the pass, one per layer."""
    lengths: list[int]
    """The number of tokens in each row."""


class TokenTree:
    """The tree behind a sequence.

    Args:
        caches: the model's caches, one per layer, which hold the sequence. They also take the nodes' keys and values.
    """

    def __init__(self, caches: Sequence[KVCache]) -> None:
        self._caches = caches
        self._positions = np.arange(caches[0].offset)
        """The position in its sequence of every key in the cache (keys,)."""
        self.root = TreeNode(None, (), caches[0].offset, self._positions)
        """The sequence itself."""

    def batch(self, nodes: Sequence[TreeNode]) -> NodeBatch:
        """The forward pass that computes these nodes. Each comes after its parent, in this pass or an earlier one."""
        length = max(len(node.tokens) for node in nodes)
        rows = self._reserve_rows(nodes, length)
        tokens = mx.array([[*node.tokens, *[0] * (length - len(node.tokens))] for node in nodes])
        return NodeBatch(tokens, [TreeCache(cache, rows) for cache in self._caches], [len(one.tokens) for one in nodes])

    def add_computed(self, tokens: Sequence[int], layers: Sequence[KeysValues]) -> TreeNode:
        """Add a child of the root whose keys and values, each (1, kv heads, tokens, width), are known already."""
        for cache, (keys, values) in zip(self._caches, layers, strict=True):
            cache.update_and_fetch(keys, values)
        node = self.root.extend(tokens)
        node.visible_keys = np.append(self.root.visible_keys, len(self._positions) + np.arange(len(tokens)))
        self._positions = np.append(self._positions, self.root.end + np.arange(len(tokens)))
        return node

    def _reserve_rows(self, nodes: Sequence[TreeNode], length: int) -> BatchRows:
        """Reserve the cache's next indices for rows of ``length`` tokens, one row for each node."""
        before = len(self._positions)
        starts = np.array([node.end - len(node.tokens) for node in nodes])
        positions = starts[:, None] + np.arange(length)
        self._positions = np.append(self._positions, positions)
        mask = np.zeros((len(nodes), length, len(self._positions)), dtype=bool)
        for row, node in enumerate(nodes):
            assert node.parent is not None, "the root is computed already"
            own = before + row * length + np.arange(length)
            mask[row][:, node.parent.visible_keys] = True
            mask[row][:, own] = np.tri(length, dtype=bool)
            node.visible_keys = np.append(node.parent.visible_keys, own[: len(node.tokens)])
        return BatchRows(mx.array(starts), mask, positions[:, :, None] - self._positions)


class TreePaths:
    """Nodes by the tokens that lead to them, so that what several paths share is computed once.

    Args:
        path: the tokens that lead to ``node``.
        node: a node that is computed.
    """

    def __init__(self, path: Tokens, node: TreeNode) -> None:
        self._nodes = {path: node}

    def add(self, path: Tokens) -> TreeNode:
        """A new node for a path. It continues the longest known path that this one begins with."""
        known = next(path[:n] for n in reversed(range(len(path))) if path[:n] in self._nodes)
        self._nodes[path] = self._nodes[known].extend(path[len(known) :])
        return self._nodes[path]


@dataclass(frozen=True)
class BatchRows:
    """What the layers of a pass have in common."""

    starts: mx.array
    """The position of each row's first token (rows,)."""
    mask: np.ndarray
    """Whether a token may look at a key (rows, length, keys)."""
    distances: np.ndarray
    """How many positions a key lies before a token (rows, length, keys)."""


class TreeCache:
    """One layer's cache during a pass over nodes of a tree."""

    def __init__(self, cache: KVCache, rows: BatchRows) -> None:
        self._cache = cache
        self._rows = rows

    @property
    def offset(self) -> mx.array:
        """The position of each row's first token (rows,)."""
        return self._rows.starts

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys and values (rows, kv heads, length, width) to the cache. Every row gets all keys and values."""
        rows = keys.shape[0]
        cached = self._cache.update_and_fetch(_concatenate_rows(keys), _concatenate_rows(values))
        keys, values = (mx.broadcast_to(array, (rows, *array.shape[1:])) for array in cached)
        return keys, values

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        """True where a token (axis 2) may look: (rows, 1, length, keys)."""
        del length, return_array
        mask = self._rows.mask
        if window_size is not None:
            mask = mask & (self._rows.distances < window_size)
        return mx.array(mask[:, None])


def _concatenate_rows(array: mx.array) -> mx.array:
    """Rows (rows, kv heads, length, width) one behind the other: (1, kv heads, rows x length, width)."""
    _, heads, _, width = array.shape
    return array.transpose(1, 0, 2, 3).reshape(1, heads, -1, width)
