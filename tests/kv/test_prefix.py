"""The prefix cache: found by token ids, and never changed by what is made from it."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from dualtune_mlx.kv import PrefixCache, Snapshot
from dualtune_mlx.models import BaseModel
from tests import tiny

PREFIX = tuple((7 * i) % 250 for i in range(40))
MORE, OTHER = [3, 1, 4, 1, 5], [9, 2, 6]


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny.model()


def logits(base: BaseModel, tokens: list[int], caches: list) -> mx.array:
    result = base.head(base.hidden(mx.array([tokens]), caches))
    mx.eval(result)
    return result


def values_of(snapshot: Snapshot) -> list[mx.array]:
    """Copies of the snapshot's arrays."""
    copies = [mx.array(array) + 0 for pair in snapshot.layers for array in pair]
    mx.eval(copies)
    return copies


def unchanged(snapshot: Snapshot, copies: list[mx.array]) -> bool:
    now = [array for pair in snapshot.layers for array in pair]
    return all(mx.array_equal(one, two).item() for one, two in zip(now, copies, strict=True))


def snapshot_of(*tokens: int) -> Snapshot:
    return Snapshot(tokens, ())


@pytest.mark.parametrize(
    ("tokens", "best", "length"),
    [
        ((1, 2, 3, 4), 0, 3),
        ((1, 2, 3), 0, 3),
        ((1, 2), 0, 2),
        ((1, 2, 9, 9, 9), 1, 5),
        ((1, 2, 9, 9, 8), 1, 4),
        ((5, 6), 2, 2),
        ((6, 5), None, 0),
        ((), None, 0),
    ],
)
def test_the_longest_common_beginning_wins(tokens, best, length):
    cache = PrefixCache()
    snapshots = [snapshot_of(1, 2, 3), snapshot_of(1, 2, 9, 9, 9, 1), snapshot_of(5, 6, 7)]
    for snapshot in snapshots:
        cache.add(snapshot)
    assert cache.longest(tokens) == (snapshots[best] if best is not None else None, length)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_only_the_latest_are_kept(size):
    cache = PrefixCache(size)
    for first in range(6):
        cache.add(snapshot_of(first))
    kept = [first for first in range(6) if cache.longest((first,))[0] is not None]
    assert kept == list(range(6 - size, 6))


def test_the_one_used_least_recently_goes():
    cache = PrefixCache(3)
    for first in range(3):
        cache.add(snapshot_of(first))
    assert cache.longest((0, 7)) == (snapshot_of(0), 1)
    assert cache.longest((9,)) == (None, 0)
    for first in (3, 4):
        cache.add(snapshot_of(first))
    assert [first for first in range(5) if cache.longest((first,))[1]] == [0, 3, 4]


def test_a_cleared_cache_knows_nothing():
    cache = PrefixCache()
    cache.add(snapshot_of(1, 2))
    cache.clear()
    assert cache.longest((1, 2)) == (None, 0)


@pytest.mark.parametrize("length", [1, 17, 40])
def test_reused_keys_and_values_give_the_same_logits(base, length):
    snapshot = base.snapshot(PREFIX)
    tokens = [*PREFIX[length:], *MORE]
    from_scratch = base.model(mx.array([[*PREFIX, *MORE]]))[:, length:]
    assert mx.allclose(logits(base, tokens, snapshot.caches(length)), from_scratch, rtol=1e-5, atol=1e-5).item()


def test_no_known_tokens_are_empty_caches(base):
    snapshot = base.snapshot(PREFIX)
    alone = logits(base, MORE, make_prompt_cache(base.model))
    assert mx.array_equal(logits(base, MORE, snapshot.caches(0)), alone).item()


@pytest.mark.parametrize("prefix", [PREFIX, PREFIX * 6 + PREFIX[:16]], ids=["40", "a whole step of 256"])
@pytest.mark.parametrize("length", [16, 40, None])
def test_a_snapshot_is_never_changed_by_its_caches(base, prefix, length):
    snapshot = base.snapshot(prefix)
    length = len(prefix) if length is None else length
    copies = values_of(snapshot)
    expected = logits(base, MORE, snapshot.caches(length))

    first, second = snapshot.caches(length), snapshot.caches(length)
    logits(base, OTHER, first)
    assert mx.array_equal(logits(base, MORE, second), expected).item()
    for cache in first:
        cache.trim(len(OTHER) + 2)  # into the snapshot's own tokens
    logits(base, OTHER, first)
    assert unchanged(snapshot, copies)
    assert mx.array_equal(logits(base, MORE, snapshot.caches(length)), expected).item()


def test_the_caches_a_snapshot_was_taken_from_may_go_on(base):
    tokens = PREFIX * 6 + PREFIX[:16]
    caches = make_prompt_cache(base.model)
    base.prefill(tokens, caches)
    snapshot = Snapshot.of(tokens, caches)
    copies = values_of(snapshot)
    for cache in caches:
        cache.trim(3)
    logits(base, OTHER, caches)
    assert unchanged(snapshot, copies)


def test_a_snapshot_is_the_base_s_even_while_an_adapter_is_active(base):
    from tests.adapters.adapters import adapter_for

    before = values_of(base.snapshot(PREFIX))
    adapter = base.bank.load(adapter_for(base.bank, 1))
    base.bank.activate(adapter)
    try:
        assert unchanged(base.snapshot(PREFIX), before)
        assert base.bank.active is adapter
        fresh = make_prompt_cache(base.model)
        base.prefill(PREFIX, fresh)
        assert not unchanged(Snapshot.of(PREFIX, fresh), before)
    finally:
        base.bank.clear()


def test_a_long_prefix_is_computed_in_chunks_like_a_short_one(base):
    tokens = [(11 * i) % 250 for i in range(1100)]  # more than two chunks
    snapshot = base.snapshot(tokens)
    whole = make_prompt_cache(base.model)
    logits(base, tokens, whole)
    for (keys, values), (other_keys, other_values) in zip(
        snapshot.layers, Snapshot.of(tuple(tokens), whole).layers, strict=True
    ):
        assert mx.allclose(keys, other_keys, rtol=1e-4, atol=1e-5).item()
        assert mx.allclose(values, other_values, rtol=1e-4, atol=1e-5).item()
