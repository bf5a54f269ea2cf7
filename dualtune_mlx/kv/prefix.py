"""The prefix cache: keys and values found again by their token ids, never by a name.

There is a radix tree for each adapter that keys and values were made under (``""``: the base weights alone). A
node holds the tokens of its edge with their keys and values, in arrays of their own: a beginning that several
sequences share is kept and counted once, and a leaf that goes gives back exactly its bytes. A lookup copies
nothing; it hands out the pieces along its path, and joining them is the one copy that a cache takes anyway, to
have room for what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dualtune_mlx.errors import ModelError, UsageError
from dualtune_mlx.kv.snapshot import Form, Layers, Snapshot, owned
from dualtune_mlx.kv.store import PrefixStore, Probe, shared

BUDGET = 2 * 2**30


class PrefixCache:
    """Keys and values of one model within a byte budget; the least recently used end of a sequence leaves first.

    Args:
        fingerprint: ``kv_fingerprint`` of the model; files of any other are ignored.
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
        self._trees: dict[str, _Node] = {}
        self._form: Form | None = None
        self._store: PrefixStore | None = None
        self._clock = 0

    def attach(self, folder: Path, probe: Probe) -> None:
        """Look among a folder's files too, from now on; a file is read and checked when it is first of use.

        Args:
            folder: where ``dualtune warm`` has put them; it need not be there.
            probe: keys and values as the model itself makes them (see ``PrefixStore``).
        """
        self._store = PrefixStore(folder, self.fingerprint, probe)

    def longest(self, tokens: Sequence[int], adapter: str = "") -> tuple[Snapshot | None, int]:
        """What is known of the longest beginning of these tokens, and its length.

        Args:
            adapter: the content hash of the adapter that acts on every one of these tokens.
        """
        tokens = tuple(tokens)
        path, known = self._path(tokens, adapter)
        if known < len(tokens) and self._read(tokens, known, adapter):
            path, known = self._path(tokens, adapter)
        if not known:
            return None, 0
        self._touch(path)
        return Snapshot(tokens[:known], tuple(node.layers for node in path)), known

    def add(self, snapshot: Snapshot, adapter: str = "") -> None:
        """Keep a copy of what is not known yet, as much of its beginning as the budget can hold.

        Raises:
            ModelError: when it is of another form than what is here: another model's.
        """
        self._check(snapshot)
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
        parent = path[-1] if path else self._trees.setdefault(adapter, _Node())
        new = _Node(tokens[known:], owned(snapshot.layers, known, len(tokens)), self._clock)
        parent.children[new.tokens[0]] = new
        self.nbytes += new.nbytes

    def clear(self) -> None:
        """Forget everything that is in memory; files stay."""
        self._trees.clear()
        self._form = None
        self.nbytes = 0

    def _check(self, snapshot: Snapshot) -> None:
        if self._form is None:
            self._form = snapshot.form
        if snapshot.form != self._form:
            raise ModelError(
                "keys and values of another model were given to a prefix cache",
                got=f"{len(snapshot.form) // 2} layers, the first of (heads, width, type) {snapshot.form[0]}",
                expected=f"{len(self._form) // 2} layers, the first of {self._form[0]}",
                fix="use a PrefixCache for each model",
            )

    def _path(self, tokens: tuple[int, ...], adapter: str) -> tuple[list[_Node], int]:
        """The nodes along these tokens, the last perhaps in part, and how many of the tokens they hold."""
        path: list[_Node] = []
        known = 0
        node = self._trees.get(adapter)
        while node is not None and known < len(tokens):
            node = node.children.get(tokens[known])
            if node is not None:
                matching = shared(node.tokens, tokens[known : known + len(node.tokens)])
                path.append(node)
                known += matching
                if matching < len(node.tokens):
                    break
        return path, known

    def _touch(self, path: Sequence[_Node]) -> None:
        self._clock += 1
        for node in path:
            node.used = self._clock

    def _make_room(self, needed: int) -> None:
        """Remove leaves until so many bytes more fit; what was just touched is the last to go."""
        while self.nbytes + needed > self.budget:
            parent, leaf = min(self._leaves(), key=lambda pair: pair[1].used)
            del parent.children[leaf.tokens[0]]
            self.nbytes -= leaf.nbytes

    def _leaves(self) -> Iterator[tuple[_Node, _Node]]:
        """Every leaf, with its parent before it."""
        inner = list(self._trees.values())
        while inner:
            parent = inner.pop()
            for child in parent.children.values():
                if child.children:
                    inner.append(child)
                else:
                    yield parent, child

    def _read(self, tokens: tuple[int, ...], known: int, adapter: str) -> bool:
        """Take in the file that knows most beyond what is known; whether there was one."""
        if self._store is None:
            return False
        for entry in self._store.worth_reading(tokens, known, adapter, self.budget):
            snapshot = self._store.read(entry)
            if snapshot is not None:
                self.add(snapshot, adapter)
                return True
        return False


@dataclass(eq=False)
class _Node:
    """The tokens of an edge, their keys and values, when they were last of use, and what follows them."""

    tokens: tuple[int, ...] = ()
    layers: Layers = ()
    used: int = 0
    children: dict[int, _Node] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def split(self, at: int) -> None:
        """Keep the first ``at`` tokens; the others go into a node behind this one."""
        rest = _Node(self.tokens[at:], owned(self.layers, at, len(self.tokens)), self.used, self.children)
        self.tokens, self.layers = self.tokens[:at], owned(self.layers, 0, at)
        self.children = {rest.tokens[0]: rest}
