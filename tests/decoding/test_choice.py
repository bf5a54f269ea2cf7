"""The choice among names: exact, best first, and asking the model only where names fork."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from dualtune_mlx.decoding import TrieFork, choice, rank_names
from dualtune_mlx.errors import PromptError

Tokens = tuple[int, ...]


class Oracle:
    """Log-probabilities of its own for every path, and what it was asked, batch by batch.

    ``power`` says how unequal they are.
    """

    def __init__(self, seed: int, power: float = 4) -> None:
        self.seed = seed
        self.power = power
        self.batches: list[list[Tokens]] = []

    def __call__(self, forks: Sequence[TrieFork]) -> list[list[float]]:
        self.batches.append([fork.path for fork in forks])
        return [self.after(fork.path, list(fork.children)) for fork in forks]

    def after(self, path: Tokens, allowed: Sequence[int]) -> list[float]:
        weights = [random.Random(f"{self.seed}{path}{token}").random() ** self.power + 1e-9 for token in allowed]
        return [math.log(weight / sum(weights)) for weight in weights]

    @property
    def asked_paths(self) -> list[Tokens]:
        return [path for batch in self.batches for path in batch]


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
            total += oracle.after(tokens[:i], allowed)[allowed.index(token)]
        probabilities[name] = math.exp(total)
    return probabilities


@pytest.mark.parametrize("seed", range(40))
def test_the_search_gives_every_name_s_exact_probability(seed):
    names = random_names(random.Random(seed))
    expected = brute_force(names, Oracle(seed))
    ranked = rank_names(names, Oracle(seed), top_k=100)
    assert {item.name: item.probability for item in ranked} == pytest.approx(expected)
    assert sum(item.probability for item in ranked) == pytest.approx(1.0)


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("power", [0.5, 4, 30])
@pytest.mark.parametrize("seed", range(20))
def test_the_best_come_first(seed, power, top_k):
    names = random_names(random.Random(seed))
    expected = brute_force(names, Oracle(seed, power))
    ranked = rank_names(names, Oracle(seed, power), top_k)
    found = [item.probability for item in ranked]
    assert found == pytest.approx(sorted(expected.values(), reverse=True)[:top_k])
    assert found == pytest.approx([expected[item.name] for item in ranked])
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
    rank_names(names, best, 1)
    rank_names(names, everything, 100)
    assert sorted(everything.asked_paths) == sorted(forks)
    assert len(best.asked_paths) == len(set(best.asked_paths)) <= len(forks)


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
    rank_names(names, oracle, top_k=10)
    assert oracle.asked_paths == asked


def test_a_less_likely_beginning_can_lead_to_the_best_name():
    names = {"a1": (1, 1), "a2": (1, 2), "a3": (1, 3), "b": (2, 9)}
    shares = {(): [0.6, 0.4], (1,): [1 / 3, 1 / 3, 1 / 3]}
    ranked = rank_names(names, lambda forks: [[math.log(p) for p in shares[fork.path]] for fork in forks], top_k=4)
    assert ranked[0].name == "b"
    assert [item.probability for item in ranked] == pytest.approx([0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    "names",
    [{"git": (1,), "git_diff": (1, 2)}, {"git_diff": (1, 2), "git": (1,)}, {"one": (1, 2), "same": (1, 2)}],
)
def test_a_name_that_begins_another_is_refused_with_both(names):
    with pytest.raises(PromptError, match="beginning of another(?s:.*)fix: ") as caught:
        rank_names(names, Oracle(0), top_k=10)
    assert all(name in str(caught.value) for name in names)


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MAX_BATCH", 1)


@pytest.mark.parametrize("top_k", [1, 3, 100])
@pytest.mark.parametrize("power", [0.5, 4, 30])
def test_asking_ahead_saves_batches_and_changes_nothing(monkeypatch, power, top_k):
    many, single, alone = 0, 0, []
    searches = [(random_names(random.Random(seed)), seed) for seed in range(60)]
    together = []
    for names, seed in searches:
        oracle = Oracle(seed, power)
        together.append(rank_names(names, oracle, top_k))
        many += len(oracle.batches)
    one_at_a_time(monkeypatch)
    for names, seed in searches:
        oracle = Oracle(seed, power)
        alone.append(rank_names(names, oracle, top_k))
        single += len(oracle.batches)
        assert all(len(batch) == 1 for batch in oracle.batches)
    assert together == alone
    assert many < single


@pytest.mark.parametrize("top_k", [1, 3, 100])
@pytest.mark.parametrize("seed", range(40))
def test_no_search_needs_more_batches_than_questions_one_by_one(monkeypatch, seed, top_k):
    names = random_names(random.Random(seed))
    together, alone = Oracle(seed), Oracle(seed)
    rank_names(names, together, top_k)
    one_at_a_time(monkeypatch)
    rank_names(names, alone, top_k)
    assert len(together.batches) <= len(alone.batches)
    assert set(together.asked_paths) >= set(alone.asked_paths)


@pytest.mark.parametrize("seed", range(40))
def test_the_first_fork_comes_alone_and_no_fork_before_the_one_it_stands_behind(seed):
    names, oracle = random_names(random.Random(seed)), Oracle(seed)
    rank_names(names, oracle, top_k=100)
    assert all(len(batch) <= choice.MAX_BATCH for batch in oracle.batches)
    assert len(oracle.batches[:1]) == sum(len(batch) for batch in oracle.batches[:1])
    forks = set(oracle.asked_paths)
    for i, path in enumerate(oracle.asked_paths):
        behind = {path[:n] for n in range(len(path))} & forks
        assert behind <= set(oracle.asked_paths[:i])


SPLIT = {"a1": (1, 1), "a2": (1, 2), "b": (2, 9), "c1": (3, 1), "c2": (3, 2)}


@pytest.mark.parametrize(
    ("shares", "top_k", "ahead"),
    [
        ([0.5, 0.2, 0.3], 1, [(1,), (3,)]),  # either fork may hold the best name
        ([0.5, 0.4, 0.1], 1, [(1,)]),  # "b" is better than any name of the last fork
        ([0.5, 0.4, 0.1], 2, [(1,), (3,)]),  # but a second is wanted
        ([0.95, 0.01, 0.04], 2, [(1,)]),  # not likely
    ],
)
def test_a_fork_is_asked_ahead_when_it_is_likely_to_be_needed(shares, top_k, ahead):
    batches = []

    def oracle(forks: Sequence[TrieFork]) -> list[list[float]]:
        batches.append([fork.path for fork in forks])
        return [[math.log(p) for p in (shares if fork.path == () else (0.5, 0.5))] for fork in forks]

    rank_names(SPLIT, oracle, top_k)
    assert batches[:2] == [[()], ahead]


def test_forks_below_a_likely_one_are_asked_with_it():
    names = {"a": (1, 1, 1), "b": (1, 1, 2), "c": (1, 2), "d": (2,)}
    oracle = Oracle(0)
    rank_names(names, oracle, top_k=4)
    assert oracle.batches == [[()], [(1,), (1, 1)]]


def scripted(shares: dict[Tokens, dict[int, float]], batches: list[list[Tokens]]):
    """An oracle whose forks share out evenly what is not given."""

    def answer(fork: TrieFork) -> list[float]:
        given = shares.get(fork.path, {})
        rest = (1 - sum(given.values())) / max(1, len(fork.children) - len(given))
        return [math.log(given.get(token, rest)) for token in fork.children]

    def oracle(forks: Sequence[TrieFork]) -> list[list[float]]:
        batches.append([fork.path for fork in forks])
        return [answer(fork) for fork in forks]

    return oracle


def test_below_a_fork_names_are_guessed_even_until_it_is_known():
    leaves = {f"{first}{i}": (first, i) for first in (1, 2) for i in range(30)}
    deep = {f"{first}deep{i}": (first, 50, i) for first in (1, 2) for i in range(2)}
    shares = {(): {1: 0.6}, (1,): {50: 0.9}, (2,): {50: 0.9}}
    batches: list[list[Tokens]] = []
    rank_names({**leaves, **deep}, scripted(shares, batches))
    assert batches == [[()], [(1,), (2,)], [(1, 50), (2, 50)]], "2 of 32 names are unlikely until more is known"


def test_the_best_name_is_told_before_the_others_are_looked_for():
    names = {"a": (1, 1), "b": (1, 2), "c": (2, 1), "d": (2, 2)}
    shares = {(): [0.95, 0.05], (1,): [0.8, 0.2], (2,): [0.5, 0.5]}
    happened = []

    def ask(forks):
        happened.extend(fork.path for fork in forks)
        return [[math.log(p) for p in shares[fork.path]] for fork in forks]

    rank_names(names, ask, 4, lambda ranked: happened.append(ranked.name))
    assert happened == [(), (1,), "a", (2,)]
