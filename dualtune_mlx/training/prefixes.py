"""Prefixes: the tokens that many examples begin with, whose keys and values are computed once."""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Sequence

from dualtune_mlx.kv import Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.examples import Example

MOST = 64
"""How many prefixes' keys and values are kept at once: this bounds the memory that they take."""

Tokens = tuple[int, ...]


class Prefixes:
    """Finds the prefix of each example.

    Examples with the same system message and tools share a prefix, which ends where the adapter acts in the first of
    them. When fewer than ``least`` examples have the same, they share the tokens that all such examples begin with.
    """

    def __init__(self, examples: Sequence[Example], least: int) -> None:
        described: dict[Tokens, list[Example]] = defaultdict(list)
        for example in examples:
            described[_description(example)].append(example)
        own = {tokens for tokens, found in described.items() if len(found) >= least}
        rest = [example for tokens, found in described.items() if tokens not in own for example in found]
        self._of = {tokens: shared_prefix(found if tokens in own else rest) for tokens, found in described.items()}

    @property
    def all(self) -> list[Tokens]:
        """All prefixes that are not empty."""
        return [tokens for tokens in dict.fromkeys(self._of.values()) if tokens]

    def of(self, example: Example) -> Tokens:
        """The tokens of an example's prefix."""
        return self._of[_description(example)]

    def split(self, examples: Sequence[Example]) -> list[tuple[Tokens, list[Example]]]:
        """The examples of each prefix, in their order."""
        found: dict[Tokens, list[Example]] = {}
        for example in examples:
            found.setdefault(self.of(example), []).append(example)
        return list(found.items())


class PrefixSnapshots:
    """Prefixes' keys and values. Those of the ``MOST`` that were used last are kept; others are computed again."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._kept: OrderedDict[Tokens, Snapshot] = OrderedDict()

    def get(self, tokens: Tokens) -> Snapshot | None:
        """The snapshot of a prefix; None for the empty one."""
        if not tokens:
            return None
        if tokens not in self._kept:
            while len(self._kept) >= MOST:
                self._kept.popitem(last=False)
            self._kept[tokens] = self._base.snapshot(tokens)
        self._kept.move_to_end(tokens)
        return self._kept[tokens]


def shared_prefix(examples: Sequence[Example]) -> Tokens:
    """The tokens that all examples begin with and that the adapter acts on in none of them."""
    limit = min(example.active for example in examples)
    return tuple(os.path.commonprefix([example.tokens[:limit] for example in examples]))


def _description(example: Example) -> Tokens:
    return example.tokens[: min(example.described, example.active)]
