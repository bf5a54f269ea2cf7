"""Several processes that train together: ``mlx.launch -n N``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import mlx.core as mx
from mlx.utils import tree_map

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This process's place among those that share the work; rank 0 is the one that writes files."""

    rank: int = 0
    size: int = 1

    @classmethod
    def launched(cls) -> Group:
        """The processes that ``mlx.launch`` started; this one alone where it was started by itself."""
        group = mx.distributed.init()
        return cls(group.rank(), group.size())

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """What this process does of some work; every item is one process's."""
        return items[self.rank :: self.size]

    def all_sum(self, tree: Any) -> Any:
        """The sums over all processes of a tree of arrays; every process calls this together."""
        if self.size == 1:
            return tree
        mx.eval(tree)
        sums = tree_map(lambda array: mx.distributed.all_sum(array), tree)
        # At once and from evaluated arrays: processes that meet sums in different orders wait for each other forever.
        mx.eval(sums)
        return sums

    def broadcast_json(self, value: Any) -> Any:
        """The leading process's JSON value, in every process; the others' own is not looked at."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.is_main else b""
        length = int(self.all_sum(mx.array(len(text))).item())
        sent = list(text) if self.is_main else [0] * length
        return json.loads(bytes(self.all_sum(mx.array(sent)).tolist()))

    def broadcast(self, tree: Any) -> Any:
        """The leading process's arrays, in every process: a tree of the same shapes everywhere."""
        return self.all_sum(tree if self.is_main else tree_map(mx.zeros_like, tree))


ALONE = Group()
