"""The most probable of some names, exactly, by best-first search over the trie of their tokens.

A name's probability is the product, over its tokens, of the model's probability of the token among
those that continue some allowed name: what constrained sampling would draw. A node's probability is
at most its parent's, so the first complete name that leaves the queue is the best one. Where only one
token is possible the model is not asked.

Forks that the search is likely to come to are asked about together. What is asked ahead changes how
often the model is asked, never what is found.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from dualtune_mlx.errors import PromptError

WIDTH = 8
"""How many forks are asked about together."""
LIKELY = 0.1
"""How probable a fork must be to be asked ahead, compared with the one that has to be asked."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Ranked:
    """A name with its exact probability."""

    name: str
    probability: float


@dataclass(frozen=True)
class Fork:
    """Where names part: the tokens they share, and where each token that may follow leads; ``size`` names in all."""

    path: Tokens
    children: Mapping[int, Fork | str]
    size: int


Answers = Sequence[Sequence[float]]
"""For some forks the log-probabilities of their children, each normalised over the fork's own."""
Queue = list[tuple[float, Tokens, Fork | str]]
"""Nodes by their cost, which is minus the log-probability; paths differ, so two nodes are never compared."""


def best_first(
    names: Mapping[str, Tokens], log_probabilities: Callable[[Sequence[Fork]], Answers], top_k: int = 1
) -> list[Ranked]:
    """The ``top_k`` most probable names, best first.

    Args:
        names: each name's tokens; none may be the beginning of another.
        log_probabilities: asks the model what may follow; the first fork comes alone.

    Raises:
        PromptError: when one name's tokens begin another's.
    """
    searching = search(names, top_k)
    answers: Answers | None = None
    while True:
        try:
            forks = next(searching) if answers is None else searching.send(answers)
        except StopIteration as end:
            found: list[Ranked] = end.value
            return found
        answers = log_probabilities(forks)


def search(names: Mapping[str, Tokens], top_k: int) -> Generator[Sequence[Fork], Answers, list[Ranked]]:
    """``best_first`` for those who ask the model about several searches at once: send it what it yields forks for."""
    queue: Queue = [(0.0, (), _trie(names, list(names), ()))]
    answers: dict[Tokens, Sequence[float]] = {}
    found: list[Ranked] = []
    while queue and len(found) < top_k:
        cost, _, node = queue[0]
        if isinstance(node, Fork) and node.path not in answers:
            forks = _likely(queue, answers, top_k - len(found)) if answers else [node]
            answers.update(zip([fork.path for fork in forks], (yield forks), strict=True))
        heapq.heappop(queue)
        if isinstance(node, str):
            found.append(Ranked(node, exp(-cost)))
            continue
        for (token, child), log_probability in zip(node.children.items(), answers[node.path], strict=True):
            heapq.heappush(queue, (cost - log_probability, (*node.path, token), child))
    return found


def _likely(queue: Queue, answers: Mapping[Tokens, Sequence[float]], wanted: int) -> list[Fork]:
    """The fork at the head of the queue, and those that the search is likely to come to before it is done.

    Below a fork without an answer, each name is taken to be as probable as the others.
    """
    limit = queue[0][0] - log(LIKELY)
    ahead = list(queue)
    chosen: list[Fork] = []
    while ahead and wanted and len(chosen) < WIDTH and ahead[0][0] <= limit:
        cost, _, node = heapq.heappop(ahead)
        if isinstance(node, str):
            wanted -= 1  # names of the queue: the search ends with them, at the latest
            continue
        known = answers.get(node.path)
        if known is None:
            chosen.append(node)
        for i, (token, child) in enumerate(node.children.items()):
            if isinstance(child, Fork):
                share = known[i] if known else log(child.size / node.size)
                heapq.heappush(ahead, (cost - share, (*node.path, token), child))
    return chosen


def _trie(names: Mapping[str, Tokens], members: list[str], path: Tokens) -> Fork | str:
    """Follow the only way until it forks; a name where one is left."""
    if len(members) == 1:
        return members[0]
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
            break
        path = (*path, next(iter(children)))
    below = {token: _trie(names, children[token], (*path, token)) for token in sorted(children)}
    return Fork(path, below, len(members))
