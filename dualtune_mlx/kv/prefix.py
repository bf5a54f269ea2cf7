"""The prefix cache: keys and values, found by their token ids.

There is one radix tree for each adapter that keys and values were computed under ("": the base weights alone). A node
holds the tokens of its edge with their keys and values, in arrays of their own. So a beginning that several sequences
share is kept and counted once, and removing a leaf frees exactly its bytes. A lookup copies nothing: it gives the
pieces along its path. Joining them is the one copy that a cache takes anyway, to have room for what follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dualtune_mlx.errors import ModelError, UsageError
from dualtune_mlx.kv.snapshot import Layers, Layout, Snapshot, copy_tokens
from dualtune_mlx.kv.store import ComputeSnapshot, PrefixStore, common_length

BUDGET = 2 * 2**30
"""Bytes of a prefix cache, where nothing else is said."""


class PrefixCache:
    """Keys and values of one model within a byte budget. The least recently used end of a sequence is removed first.

    Args:
        fingerprint: ``kv_fingerprint`` of the model; files of other models are ignored.
        budget: bytes that keys and values may take together.

    Raises:
        UsageError: when the budget is below 0.
    """

    def __init__(self, fingerprint: str = "", budget: int = BUDGET) -> None:
        if budget < 0:
            raise UsageError("a budget is out of range", where="prefix cache", got=budget, expected="0 bytes or more")
        self.fingerprint = fingerprint
        self.budget = budget
        self.nbytes = 0
        self._trees: dict[str, _RadixNode] = {}
        self._layout: Layout | None = None
        self._store: PrefixStore | None = None
        self._clock = 0

    def attach(self, folder: Path, compute_snapshot: ComputeSnapshot, known: Collection[str] | None = None) -> None:
        """Use a folder's prefix files too, from now on. A file is read and checked when it is first needed.

        Args:
            folder: where ``dualtune warm`` wrote them; it need not exist.
            compute_snapshot: computes keys and values with the model itself (see ``PrefixStore``).
            known: the checksums of the files that may be used; all, where left out.
        """
        self._store = PrefixStore(folder, self.fingerprint, compute_snapshot, known)

    def find_longest(self, tokens: Sequence[int], adapter: str = "") -> tuple[Snapshot | None, int]:
        """Find the longest beginning of these tokens that is known; its snapshot and its length.

        Args:
            tokens: token ids.
            adapter: content hash of the adapter that acts on all of these tokens; "" for the base weights alone.
        """
        tokens = tuple(tokens)
        path, known = self._path(tokens, adapter)
        if known < len(tokens) and self._read_file(tokens, known, adapter):
            path, known = self._path(tokens, adapter)
        if not known:
            return None, 0
        self._touch(path)
        return Snapshot(tokens[:known], tuple(node.layers for node in path)), known

    def add(self, snapshot: Snapshot, adapter: str = "") -> None:
        """Keep a copy of what is not known yet: as much of its beginning as the budget can hold.

        Raises:
            ModelError: when the snapshot has another layout than those that are kept: it is another model's.
        """
        self._check_layout(snapshot)
        tokens = snapshot.tokens[: self.budget // snapshot.bytes_per_token]
        path, known = self._path(tokens, adapter)
        if known == len(tokens):
            self._touch(path)
            return
        beyond = sum(len(node.tokens) for node in path) - known
        if beyond:
            path[-1].split(len(path[-1].tokens) - beyond)
        self._touch(path)
        self._make_room((len(tokens) - known) * snapshot.bytes_per_token)
        parent = path[-1] if path else self._trees.setdefault(adapter, _RadixNode())
        new = _RadixNode(tokens[known:], copy_tokens(snapshot.layers, known, len(tokens)), self._clock)
        parent.children[new.tokens[0]] = new
        self.nbytes += new.nbytes

    def clear(self) -> None:
        """Forget everything in memory. Files stay."""
        self._trees.clear()
        self._layout = None
        self.nbytes = 0

    def _check_layout(self, snapshot: Snapshot) -> None:
        if self._layout is None:
            self._layout = snapshot.layout
        if snapshot.layout != self._layout:
            raise ModelError(
                "keys and values of another model were given to a prefix cache",
                got=f"{len(snapshot.layout) // 2} layers, the first of (heads, width, type) {snapshot.layout[0]}",
                expected=f"{len(self._layout) // 2} layers, the first of {self._layout[0]}",
                fix="use a PrefixCache for each model",
            )

    def _path(self, tokens: tuple[int, ...], adapter: str) -> tuple[list[_RadixNode], int]:
        """The nodes along these tokens, and how many of the tokens they hold. The last node may match in part only."""
        path: list[_RadixNode] = []
        known = 0
        node = self._trees.get(adapter)
        while node is not None and known < len(tokens):
            node = node.children.get(tokens[known])
            if node is not None:
                matching = common_length(node.tokens, tokens[known : known + len(node.tokens)])
                path.append(node)
                known += matching
                if matching < len(node.tokens):
                    break
        return path, known

    def _touch(self, path: Sequence[_RadixNode]) -> None:
        self._clock += 1
        for node in path:
            node.used = self._clock

    def _make_room(self, needed: int) -> None:
        """Remove leaves until ``needed`` more bytes fit. What was just touched is the last to go."""
        while self.nbytes + needed > self.budget:
            parent, leaf = min(self._leaves(), key=lambda pair: pair[1].used)
            del parent.children[leaf.tokens[0]]
            self.nbytes -= leaf.nbytes

    def _leaves(self) -> Iterator[tuple[_RadixNode, _RadixNode]]:
        """Every leaf, with its parent before it."""
        inner = list(self._trees.values())
        while inner:
            parent = inner.pop()
            for child in parent.children.values():
                if child.children:
                    inner.append(child)
                else:
                    yield parent, child

    def _read_file(self, tokens: tuple[int, ...], known: int, adapter: str) -> bool:
        """Add the file that holds the most tokens beyond the known ones; False where there is none."""
        if self._store is None:
            return False
        for file in self._store.candidates(tokens, known, adapter, self.budget):
            snapshot = self._store.read(file)
            if snapshot is not None:
                self.add(snapshot, adapter)
                return True
        return False


@dataclass(eq=False)
class _RadixNode:
    """A node of the radix tree."""

    tokens: tuple[int, ...] = ()
    """The tokens of the edge to it."""
    layers: Layers = ()
    """Their keys and values."""
    used: int = 0
    """When they were last used, on the cache's own clock."""
    children: dict[int, _RadixNode] = field(default_factory=dict)
    """What follows, by its first token."""

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def split(self, at: int) -> None:
        """Keep the first ``at`` tokens, and move the others into a child."""
        rest = _RadixNode(self.tokens[at:], copy_tokens(self.layers, at, len(self.tokens)), self.used, self.children)
        self.tokens, self.layers = self.tokens[:at], copy_tokens(self.layers, 0, at)
        self.children = {rest.tokens[0]: rest}
