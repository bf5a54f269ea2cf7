"""What many examples begin with: the system message and the tools, computed once for all of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from dualtune_mlx.training.examples import Example

MOST = 64
"""How many different descriptions of tools have a prefix of their own; the memory that they take is so bounded."""

Tokens = tuple[int, ...]


class Prefixes:
    """The prefix of every example.

    Examples with the same description of tools share one, up to where the first of them becomes active. Descriptions
    that fewer than ``least`` examples have, and those beyond the most frequent 64, share what they all begin with.
    """

    def __init__(self, examples: Sequence[Example], least: int) -> None:
        described: dict[Tokens, list[Example]] = defaultdict(list)
        for example in examples:
            described[_description(example)].append(example)
        frequent = sorted(described, key=lambda tokens: -len(described[tokens]))[:MOST]
        own = {tokens for tokens in frequent if len(described[tokens]) >= least}
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
        """Examples by their prefix, in their order."""
        found: dict[Tokens, list[Example]] = {}
        for example in examples:
            found.setdefault(self.of(example), []).append(example)
        return list(found.items())


def shared_prefix(examples: Sequence[Example]) -> Tokens:
    """The tokens that all examples begin with and that no adapter acts on."""
    limit = min(example.active for example in examples)
    return tuple(os.path.commonprefix([example.tokens[:limit] for example in examples]))


def _description(example: Example) -> Tokens:
    return example.tokens[: min(example.described, example.active)]
