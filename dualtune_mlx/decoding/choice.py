"""The most probable of some names, exactly, by best-first search over the trie of their tokens.

A name's probability is the product, over its tokens, of the model's probability of the token among
those that continue some allowed name: what constrained sampling would draw. A node's probability is
at most its parent's, so the first complete name that leaves the queue is the best one. Where only one
token is possible the model is not asked.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp

from dualtune_mlx.errors import PromptError

Tokens = tuple[int, ...]
LogProbabilities = Callable[[Tokens, Sequence[int]], Sequence[float]]
"""(path, allowed next tokens) to the log-probability of each, normalised over the allowed ones."""


@dataclass(frozen=True)
class Ranked:
    """A name with its exact probability."""

    name: str
    probability: float


def best_first(names: Mapping[str, Tokens], log_probabilities: LogProbabilities, top_k: int = 1) -> list[Ranked]:
    """The ``top_k`` most probable names, best first.

    Args:
        names: each name's tokens; none may be the beginning of another.
        log_probabilities: asks the model what may follow a path.

    Raises:
        PromptError: when one name's tokens begin another's.
    """
    queue: list[tuple[float, Tokens, list[str]]] = [(0.0, (), list(names))]
    found: list[Ranked] = []
    while queue and len(found) < top_k:
        cost, path, members = heapq.heappop(queue)
        path, children = _fork(names, path, members)
        if not children:
            found.append(Ranked(members[0], exp(-cost)))
            continue
        tokens = sorted(children)
        for token, log_probability in zip(tokens, log_probabilities(path, tokens), strict=True):
            heapq.heappush(queue, (cost - log_probability, (*path, token), children[token]))
    return found


def _fork(names: Mapping[str, Tokens], path: Tokens, members: list[str]) -> tuple[Tokens, dict[int, list[str]]]:
    """Follow the only way until it forks; no children when one complete name is left."""
    if len(members) == 1:
        return names[members[0]], {}
    while True:
        children: dict[int, list[str]] = defaultdict(list)
        for name in members:
            if len(names[name]) == len(path):
                raise PromptError(
                    "one name's tokens are the beginning of another's",
                    got=f"{name!r} among {', '.join(members)}",
                    fix='end the template\'s span "selector" with a fixed text that no name contains',
                )
            children[names[name][len(path)]].append(name)
        if len(children) > 1:
            return path, children
        path = (*path, next(iter(children)))
