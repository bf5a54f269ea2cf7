"""The prefix cache in memory: found by tokens and adapter alone, within its budget, nothing kept twice."""

from __future__ import annotations

import gc
import random
import sys

import mlx.core as mx
import pytest

from dualtune_mlx.errors import ModelError, UsageError
from dualtune_mlx.kv import PrefixCache, Snapshot
from tests.kv.fakes import PER_TOKEN, fake, first, same


def cache_of(*streams: tuple[int, ...], tokens: int = 1000, adapter: str = "") -> PrefixCache:
    """A cache with room for so many tokens, to which these streams were added in order."""
    cache = PrefixCache("model", tokens * PER_TOKEN)
    for stream in streams:
        cache.add(fake(stream, adapter), adapter)
    return cache


def count_known(cache: PrefixCache, *streams: tuple[int, ...]) -> list[int]:
    return [cache.find_longest(stream)[1] for stream in streams]


def count_kept(cache: PrefixCache, streams: set[tuple[str, tuple[int, ...]]]) -> int:
    """How many tokens a cache holds, as far as it can be asked for these (adapter, tokens): each path once."""
    paths = set()
    for adapter, tokens in streams:
        length = cache.find_longest(tokens, adapter)[1]
        paths |= {(adapter, tokens[:end]) for end in range(1, length + 1)}
    return len(paths)


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ((1, 2, 3, 4), 3),
        ((1, 2, 3), 3),
        ((1, 2), 2),
        ((1,), 1),
        ((1, 2, 9, 9, 9), 5),
        ((1, 2, 9, 9, 8), 4),
        ((1, 2, 9, 9, 9, 1, 5), 6),
        ((5, 6), 2),
        ((6, 5), 0),
        ((2, 3), 0),
        ((), 0),
    ],
)
def test_the_longest_common_beginning_wins(tokens, length):
    cache = cache_of((1, 2, 3), (1, 2, 9, 9, 9, 1), (5, 6, 7))
    snapshot, found = cache.find_longest(tokens)
    assert found == length
    if length:
        assert same(snapshot, fake(tokens[:length]))
    else:
        assert snapshot is None


def test_tokens_may_come_as_a_list():
    cache = cache_of((1, 2, 3))
    assert cache.find_longest([1, 2, 3, 4])[1] == 3


def test_a_beginning_that_is_shared_is_kept_once():
    shared, cache = tuple(range(50)), cache_of(tokens=1000)
    for number in range(8):
        cache.add(fake((*shared, 100 + number)))
    assert cache.nbytes == (50 + 8) * PER_TOKEN
    cache.add(fake(shared))
    cache.add(fake((*shared, 103)))
    assert cache.nbytes == (50 + 8) * PER_TOKEN
    cache.add(fake((*shared, 103, 7, 7)))
    assert cache.nbytes == (50 + 8 + 2) * PER_TOKEN


def test_the_same_tokens_under_another_adapter_are_not_shared():
    cache = cache_of((1, 2, 3))
    assert cache.find_longest((1, 2, 3), "adapter") == (None, 0)
    cache.add(fake((1, 2, 3), "adapter"), "adapter")
    assert cache.nbytes == 6 * PER_TOKEN
    assert same(cache.find_longest((1, 2, 3), "adapter")[0], fake((1, 2, 3), "adapter"))
    assert same(cache.find_longest((1, 2, 3))[0], fake((1, 2, 3)))


def test_the_end_that_was_used_least_recently_leaves_first():
    a, b, c, d = ((n, *range(9)) for n in (100, 101, 102, 103))
    cache = cache_of(a, b, c, tokens=30)
    assert count_known(cache, a) == [10]
    cache.add(fake(d))
    assert count_known(cache, b, a, c, d) == [0, 10, 10, 10]
    cache.add(fake(b))
    assert count_known(cache, a, c, d, b) == [0, 10, 10, 10]


def test_what_others_continue_stays_as_long_as_they_do():
    stem = tuple(range(10))
    cache = cache_of((*stem, 50, 51), (*stem, 60, 61), (7,), tokens=15)
    cache.find_longest((7,))
    cache.add(fake((8, 8, 8)))  # three tokens: both ends must go, and not the stem before them
    assert count_known(cache, stem, (7,), (8, 8, 8)) == [10, 1, 3]
    assert cache.nbytes == 14 * PER_TOKEN


def test_a_new_end_never_drives_out_its_own_beginning():
    stem = tuple(range(10))
    cache = cache_of(stem, (90, 91, 92, 93), tokens=14)
    cache.add(fake((*stem, 50, 51)))
    assert count_known(cache, (*stem, 50, 51), (90, 91)) == [12, 0]


@pytest.mark.parametrize("room", [0, 1, 7, 20])
def test_of_what_exceeds_the_budget_the_beginning_stays(room):
    cache = cache_of((77, 78), tokens=room)
    tokens = tuple(range(20))
    cache.add(fake(tokens))
    assert count_known(cache, tokens) == [room]
    assert cache.nbytes == room * PER_TOKEN
    assert room == 0 or same(cache.find_longest(tokens)[0], fake(tokens[:room]))


def test_a_budget_that_is_no_multiple_of_a_token_is_not_exceeded():
    cache = PrefixCache("model", 3 * PER_TOKEN + PER_TOKEN - 1)
    cache.add(fake((1, 2, 3, 4)))
    assert cache.nbytes == 3 * PER_TOKEN


def test_a_budget_below_nothing_is_refused():
    with pytest.raises(UsageError, match="budget is out of range"):
        PrefixCache("model", -1)


def test_a_cleared_cache_knows_nothing():
    cache = cache_of((1, 2))
    cache.clear()
    assert (cache.find_longest((1, 2)), cache.nbytes) == ((None, 0), 0)
    cache.add(fake((1, 2), layers=5))
    assert count_known(cache, (1, 2)) == [2]


@pytest.mark.parametrize("change", [{"layers": 3}, {"heads": 1}, {"width": 8}, {"dtype": mx.float16}], ids=str)
def test_keys_and_values_of_another_form_are_refused(change):
    cache = cache_of((1, 2))
    with pytest.raises(ModelError, match="another model"):
        cache.add(fake((1, 2, 3), **change))
    assert count_known(cache, (1, 2, 3)) == [2]


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
def test_every_type_is_kept_bit_for_bit(dtype):
    cache = PrefixCache("model")
    for tokens in ((1, 2, 3, 4), (1, 2, 9), (1, 2, 3, 8)):
        cache.add(fake(tokens, dtype=dtype))
    assert same(cache.find_longest((1, 2, 3, 4))[0], fake((1, 2, 3, 4), dtype=dtype))
    assert same(cache.find_longest((1, 2, 9))[0], fake((1, 2, 9), dtype=dtype))


def streams(seed: int, count: int) -> list[tuple[str, tuple[int, ...]]]:
    """Random (adapter, tokens): few different tokens and many common beginnings, also across adapters."""
    chance = random.Random(seed)
    made: list[tuple[str, tuple[int, ...]]] = []
    for _ in range(count):
        begun = chance.choice(made)[1] if made and chance.random() < 0.7 else ()
        begun = begun[: chance.randint(0, len(begun))]
        more = tuple(chance.randint(0, 2) for _ in range(chance.randint(1, 12)))
        made.append((chance.choice(["", "a", "b", "ab"]), (*begun, *more)))
    return made


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("room", [5, 60, 400, 100_000])
def test_no_adapter_is_ever_served_by_another_s_and_the_budget_holds(seed, room):
    """300 random streams: what is found is the adapter's own, the bytes are exact, and never too many."""
    cache = cache_of(tokens=room)
    added: set[tuple[str, tuple[int, ...]]] = set()
    best = 0
    for number, (adapter, tokens) in enumerate(streams(seed, 300)):
        snapshot, length = cache.find_longest(tokens, adapter)
        assert length <= len(tokens)
        if snapshot is not None:
            assert same(snapshot, fake(tokens[:length], adapter))
        cache.add(fake(tokens, adapter), adapter)
        added.add((adapter, tokens))
        assert cache.nbytes <= cache.budget
        assert cache.find_longest(tokens, adapter)[1] == min(len(tokens), room), "the latest is always there"
        if number % 30 == 29:
            assert cache.nbytes == count_kept(cache, added) * PER_TOKEN
        best = max(best, cache.nbytes)
    assert best > 0.8 * cache.budget or room == 100_000


@pytest.mark.parametrize("heads", [1, 2])
def test_what_leaves_gives_its_memory_back(heads):
    """Also where it was computed, or kept, in one buffer with what stays."""
    width, length = 512, 512
    big = 2 * 2 * heads * width * 4
    cache = PrefixCache("model", 4 * length * big)
    stem = tuple(range(length))

    def active_bytes() -> int:
        gc.collect()
        return mx.get_active_memory()

    def add(tokens: tuple[int, ...]) -> None:
        whole = mx.random.normal((1, heads, len(tokens), width))
        mx.eval(whole)
        cache.add(Snapshot(tokens, (((whole, whole + 1), (whole + 2, whole + 3)),)))

    before = active_bytes()
    slack = 3 * 4 * 2**14 * 4  # what mx.contiguous may leave at the end of a buffer
    add((*stem, *range(1000, 1000 + length)))
    assert active_bytes() - before <= 2 * length * big + slack
    add((*stem, *range(3000, 3000 + length)))
    assert cache.nbytes == 3 * length * big
    assert active_bytes() - before <= 3 * length * big + slack
    cache.budget = 2 * length * big
    add((*stem, *range(3000, 3000 + length - 1), 7))
    assert cache.nbytes <= cache.budget
    assert active_bytes() - before <= 2 * length * big + slack
    cache.clear()
    assert active_bytes() - before <= slack


def test_a_lookup_copies_nothing():
    cache = cache_of((1, 2, 3, 4), (1, 2, 9), (1, 2, 3, 8))
    before = mx.get_active_memory()
    snapshot, length = cache.find_longest((1, 2, 3, 8))
    assert (length, len(snapshot.pieces)) == (4, 3)
    assert mx.get_active_memory() == before
    assert same(snapshot, fake((1, 2, 3, 8)))


def test_what_was_found_stays_whole_when_the_cache_lets_it_go():
    cache = cache_of((1, 2, 3, 4), (1, 2, 9), tokens=5)
    snapshot, _ = cache.find_longest((1, 2, 3, 4))
    cache.add(fake((5, 6, 7, 8, 9)))
    assert count_known(cache, (1, 2, 3, 4)) == [0]
    assert same(snapshot, fake((1, 2, 3, 4)))
    assert same(first(snapshot, 3), fake((1, 2, 3)))


def test_long_chains_are_no_deep_recursion():
    cache = cache_of(tokens=10_000)
    length = sys.getrecursionlimit() + 100
    snapshot = fake(tuple(range(length)), layers=1)
    for end in range(1, length):
        cache.add(first(snapshot, end))
    assert cache.find_longest(snapshot.tokens)[1] == length - 1
    cache.budget = length * snapshot.bytes_per_token
    cache.add(fake((7, 7), layers=1))
    assert cache.find_longest((7, 7))[1] == 2
