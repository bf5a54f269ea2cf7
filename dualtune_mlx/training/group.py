"""Several processes that train together, as ``mlx.launch -n N`` starts them."""

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
    """This process's place among the processes that share the work."""

    rank: int = 0
    """This process's number, from 0."""
    size: int = 1
    """How many processes there are."""

    @classmethod
    def join(cls) -> Group:
        """Join the processes that ``mlx.launch`` started; a process started by itself is a group of one."""
        group = mx.distributed.init()
        return cls(group.rank(), group.size())

    @property
    def is_main(self) -> bool:
        """Whether this is the main process: rank 0, which writes files and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of the items; every item is in exactly one process's share."""
        return items[self.rank :: self.size]

    def all_sum(self, tree: Any) -> Any:
        """Sum a tree of arrays over all processes. Every process must call this, with a tree of the same shapes."""
        if self.size == 1:
            return tree
        mx.eval(tree)
        sums = tree_map(lambda array: mx.distributed.all_sum(array), tree)
        # At once and from evaluated arrays: processes that meet sums in different orders wait for each other forever.
        mx.eval(sums)
        return sums

    def wait(self) -> None:
        """Wait until every process has called this."""
        mx.eval(self.all_sum(mx.array(0)))

    def broadcast_json(self, value: Any) -> Any:
        """The main process's JSON value, in every process; the other processes' values are ignored."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode() if self.is_main else b""
        length = int(self.all_sum(mx.array(len(text))).item())
        sent = list(text) if self.is_main else [0] * length
        return json.loads(bytes(self.all_sum(mx.array(sent)).tolist()))

    def broadcast(self, tree: Any) -> Any:
        """The main process's arrays, in every process. Every process gives a tree of the same shapes."""
        return self.all_sum(tree if self.is_main else tree_map(mx.zeros_like, tree))


ALONE = Group()
"""A process that trains by itself."""
