"""The choice among names: exact, best first, and asking the model only where names fork."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from dualtune_mlx.decoding import best_first
from dualtune_mlx.errors import PromptError

Tokens = tuple[int, ...]


class Oracle:
    """A log-probability function of its own for every path, which counts what it was asked."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.asked: list[Tokens] = []

    def __call__(self, path: Tokens, allowed: Sequence[int]) -> list[float]:
        self.asked.append(path)
        weights = [random.Random(f"{self.seed}{path}{token}").random() ** 4 + 1e-9 for token in allowed]
        return [math.log(weight / sum(weights)) for weight in weights]


def random_names(generator: random.Random) -> dict[str, Tokens]:
    """Some names over few tokens, so that they share beginnings; 0 ends each, so that none begins another."""
    bodies = {
        tuple(generator.randrange(1, 4) for _ in range(generator.randrange(1, 6)))
        for _ in range(generator.randrange(1, 14))
    }
    return {f"name{i}": (*body, 0) for i, body in enumerate(sorted(bodies))}


def brute_force(names: dict[str, Tokens], oracle: Oracle) -> dict[str, float]:
    probabilities = {}
    for name, tokens in names.items():
        total = 0.0
        for i, token in enumerate(tokens):
            allowed = sorted({other[i] for other in names.values() if other[:i] == tokens[:i]})
            total += oracle(tokens[:i], allowed)[allowed.index(token)]
        probabilities[name] = math.exp(total)
    return probabilities


@pytest.mark.parametrize("seed", range(40))
def test_the_search_gives_every_name_s_exact_probability(seed):
    names = random_names(random.Random(seed))
    expected = brute_force(names, Oracle(seed))
    ranked = best_first(names, Oracle(seed), top_k=100)
    assert {item.name: item.probability for item in ranked} == pytest.approx(expected)
    assert sum(item.probability for item in ranked) == pytest.approx(1.0)


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(20))
def test_the_best_come_first(seed, top_k):
    names = random_names(random.Random(seed))
    expected = sorted(brute_force(names, Oracle(seed)).values(), reverse=True)[:top_k]
    found = [item.probability for item in best_first(names, Oracle(seed), top_k)]
    assert found == pytest.approx(expected)
    assert all(one >= two for one, two in pairwise(found))


@pytest.mark.parametrize("seed", range(20))
def test_the_best_name_asks_no_more_than_the_whole_trie_has_forks(seed):
    names = random_names(random.Random(seed))
    prefixes = {tokens[:i] for tokens in names.values() for i in range(len(tokens))}
    forks = {
        prefix
        for prefix in prefixes
        if len({tokens[len(prefix)] for tokens in names.values() if tokens[: len(prefix)] == prefix}) > 1
    }
    best, everything = Oracle(seed), Oracle(seed)
    best_first(names, best, 1)
    best_first(names, everything, 100)
    assert sorted(everything.asked) == sorted(forks)
    assert len(best.asked) == len(set(best.asked)) <= len(forks)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ({"only": (5, 6, 7)}, []),
        ({"a": (1, 2, 9), "b": (1, 2, 8)}, [(1, 2)]),
        ({"a": (1, 5, 5, 5), "b": (2, 6, 6, 6)}, [()]),
    ],
)
def test_where_only_one_token_is_possible_the_model_is_not_asked(names, asked):
    oracle = Oracle(0)
    best_first(names, oracle, top_k=10)
    assert oracle.asked == asked


def test_a_less_likely_beginning_can_lead_to_the_best_name():
    names = {"a1": (1, 1), "a2": (1, 2), "a3": (1, 3), "b": (2, 9)}
    shares = {(): [0.6, 0.4], (1,): [1 / 3, 1 / 3, 1 / 3]}
    ranked = best_first(names, lambda path, allowed: [math.log(p) for p in shares[path]], top_k=4)
    assert ranked[0].name == "b"
    assert [item.probability for item in ranked] == pytest.approx([0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    "names",
    [{"git": (1,), "git_diff": (1, 2)}, {"git_diff": (1, 2), "git": (1,)}, {"one": (1, 2), "same": (1, 2)}],
)
def test_a_name_that_begins_another_is_refused_with_both(names):
    with pytest.raises(PromptError, match="beginning of another(?s:.*)fix: ") as caught:
        best_first(names, Oracle(0), top_k=10)
    assert all(name in str(caught.value) for name in names)
