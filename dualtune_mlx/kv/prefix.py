"""The prefix cache: base-model snapshots found again by their token ids, never by a name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dualtune_mlx.kv.snapshot import Snapshot


class PrefixCache:
    """Keeps the ``size`` snapshots of one base model that were used last; the longest common beginning wins."""

    def __init__(self, size: int = 4) -> None:
        self.size = size
        self._snapshots: list[Snapshot] = []

    def longest(self, tokens: Sequence[int]) -> tuple[Snapshot | None, int]:
        """The snapshot that shares the longest beginning with these tokens, and its length."""
        lengths = [len(os.path.commonprefix([snapshot.tokens, tuple(tokens)])) for snapshot in self._snapshots]
        longest = max(lengths, default=0)
        if not longest:
            return None, 0
        snapshot = self._snapshots.pop(lengths.index(longest))
        self._snapshots.append(snapshot)
        return snapshot, longest

    def add(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; where there are too many, the one used least recently goes."""
        self._snapshots = [*self._snapshots[-self.size + 1 :], snapshot] if self.size > 1 else [snapshot]

    def clear(self) -> None:
        self._snapshots.clear()
