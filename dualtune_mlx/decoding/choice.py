"""The most probable of some names, exactly, by best-first search over the trie of their tokens.

A name's probability is the product of its tokens' probabilities. A token's probability is the model's, among the
tokens that continue some allowed name; this is what constrained sampling would draw from. A node's probability is at
most its parent's, so the first complete name that leaves the queue is the best one. Where only one token is possible,
the model is not asked.

The model is asked about several forks together: those that the search is likely to need. That changes how often the
model is asked, never what is found.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from dualtune_mlx.errors import PromptError

MAX_BATCH = 8
"""How many forks the model is asked about together at most."""
ASK_AHEAD_FROM = 0.1
"""A fork is asked about ahead of need from this probability on, relative to that of the fork that is needed now."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class RankedName:
    """A name with its exact probability."""

    name: str
    probability: float


@dataclass(frozen=True)
class TrieFork:
    """A node of the trie at which names part."""

    path: Tokens
    """The tokens that the names share."""
    children: Mapping[int, TrieFork | str]
    """Where each possible next token leads: to another fork, or to the only name left."""
    size: int
    """How many names are below."""


LogProbabilities = Sequence[Sequence[float]]
"""For each of some forks the log-probabilities of its children, normalised over these."""
Queue = list[tuple[float, Tokens, TrieFork | str]]
"""Nodes by their cost, which is minus the log-probability. Paths differ, so two nodes are never compared."""
OnBest = Callable[[RankedName], object]
"""Called with the best name before the others are looked for."""


def rank_names(
    names: Mapping[str, Tokens],
    log_probabilities: Callable[[Sequence[TrieFork]], LogProbabilities],
    top_k: int = 1,
    on_best: OnBest = lambda ranked: None,
) -> list[RankedName]:
    """The ``top_k`` most probable names, best first.

    Args:
        names: each name's tokens; none may be the beginning of another.
        log_probabilities: asks the model about some forks; the first call is for one fork.
        top_k: how many names are wanted.
        on_best: called with the best name before the others are looked for.

    Raises:
        PromptError: when one name's tokens begin another's.
    """
    search = search_names(names, top_k, on_best)
    answers: LogProbabilities | None = None
    while True:
        try:
            forks = next(search) if answers is None else search.send(answers)
        except StopIteration as end:
            found: list[RankedName] = end.value
            return found
        answers = log_probabilities(forks)


def search_names(
    names: Mapping[str, Tokens], top_k: int, on_best: OnBest = lambda ranked: None
) -> Generator[Sequence[TrieFork], LogProbabilities, list[RankedName]]:
    """``rank_names`` as a generator, so that the model can be asked about several searches at once.

    It yields forks and is sent their log-probabilities. It returns the names.

    Raises:
        PromptError: when one name's tokens begin another's.
    """
    queue: Queue = [(0.0, (), _build_trie(names, list(names), ()))]
    answers: dict[Tokens, Sequence[float]] = {}
    found: list[RankedName] = []
    while queue and len(found) < top_k:
        cost, _, node = queue[0]
        if isinstance(node, TrieFork) and node.path not in answers:
            forks = _likely_forks(queue, answers, top_k - len(found)) if answers else [node]
            answers.update(zip([fork.path for fork in forks], (yield forks), strict=True))
        heapq.heappop(queue)
        if isinstance(node, str):
            found.append(RankedName(node, exp(-cost)))
            if len(found) == 1:
                on_best(found[0])
            continue
        for (token, child), log_probability in zip(node.children.items(), answers[node.path], strict=True):
            heapq.heappush(queue, (cost - log_probability, (*node.path, token), child))
    return found


def _likely_forks(queue: Queue, answers: Mapping[Tokens, Sequence[float]], wanted: int) -> list[TrieFork]:
    """The fork at the head of the queue, and the forks that the search is likely to need later.

    Below a fork that the model was not asked about, all names are taken as equally probable.
    """
    limit = queue[0][0] - log(ASK_AHEAD_FROM)
    ahead = list(queue)
    chosen: list[TrieFork] = []
    while ahead and wanted and len(chosen) < MAX_BATCH and ahead[0][0] <= limit:
        cost, _, node = heapq.heappop(ahead)
        if isinstance(node, str):
            wanted -= 1  # names of the queue: the search ends with them, at the latest
            continue
        known = answers.get(node.path)
        if known is None:
            chosen.append(node)
        for i, (token, child) in enumerate(node.children.items()):
            if isinstance(child, TrieFork):
                share = known[i] if known else log(child.size / node.size)
                heapq.heappush(ahead, (cost - share, (*node.path, token), child))
    return chosen


def _build_trie(names: Mapping[str, Tokens], members: list[str], path: Tokens) -> TrieFork | str:
    """The first fork below a path, or the name where only one is left."""
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
    below = {token: _build_trie(names, children[token], (*path, token)) for token in sorted(children)}
    return TrieFork(path, below, len(members))
