"""Snapshots: never changed by what is made from them, cut anywhere, in pieces or in one."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from dualtune_mlx.kv import Snapshot
from dualtune_mlx.kv.snapshot import copy_tokens
from dualtune_mlx.models import BaseModel
from tests import tiny
from tests.kv.fakes import PER_TOKEN, fake, first, same

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


def is_unchanged(snapshot: Snapshot, copies: list[mx.array]) -> bool:
    now = [array for pair in snapshot.layers for array in pair]
    return all(mx.array_equal(one, two).item() for one, two in zip(now, copies, strict=True))


def cut(snapshot: Snapshot, *borders: int) -> Snapshot:
    """The same tokens, cut at these places."""
    ends = [*borders, len(snapshot.tokens)]
    starts = [0, *borders]
    pieces = tuple(copy_tokens(snapshot.layers, start, end) for start, end in zip(starts, ends, strict=True))
    return Snapshot(snapshot.tokens, pieces)


@pytest.mark.parametrize("length", [1, 17, 40])
def test_reused_keys_and_values_give_the_same_logits(base, length):
    snapshot = base.snapshot(PREFIX)
    tokens = [*PREFIX[length:], *MORE]
    from_scratch = base.model(mx.array([[*PREFIX, *MORE]]))[:, length:]
    assert mx.allclose(logits(base, tokens, snapshot.to_caches(length)), from_scratch, rtol=1e-5, atol=1e-5).item()


@pytest.mark.parametrize("borders", [(1,), (39,), (7, 8, 30)])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, 40])
def test_pieces_are_as_good_as_one(base, borders, length):
    whole = base.snapshot(PREFIX)
    pieces = cut(whole, *borders)
    assert same(pieces, whole)
    for one, other in zip(pieces.to_caches(length), whole.to_caches(length), strict=True):
        assert one.offset == other.offset == length
        if length:
            assert mx.array_equal(one.keys_and_values()[0], other.keys_and_values()[0]).item()
            assert mx.array_equal(one.keys_and_values()[1], other.keys_and_values()[1]).item()
    tokens = [*PREFIX[length:], *MORE]
    assert mx.array_equal(logits(base, tokens, pieces.to_caches(length)), logits(base, tokens, whole.to_caches(length)))


def test_the_last_piece_may_hold_more_than_the_tokens():
    snapshot = fake(range(20))
    assert same(first(cut(snapshot, 5), 12), fake(range(12)))
    assert [layer[0].shape for layer in first(snapshot, 12).layers] == [(1, 2, 12, 4)] * 2


def test_what_a_token_takes():
    snapshot = fake(range(20))
    assert snapshot.layout == ((2, 4, mx.float32),) * 4
    assert snapshot.bytes_per_token == PER_TOKEN
    assert sum(array.nbytes for pair in snapshot.layers for array in pair) == 20 * PER_TOKEN
    assert fake(range(20), dtype=mx.bfloat16).bytes_per_token == PER_TOKEN // 2


def test_no_known_tokens_are_empty_caches(base):
    snapshot = base.snapshot(PREFIX)
    alone = logits(base, MORE, make_prompt_cache(base.model))
    assert mx.array_equal(logits(base, MORE, snapshot.to_caches(0)), alone).item()


@pytest.mark.parametrize("prefix", [PREFIX, PREFIX * 6 + PREFIX[:16]], ids=["40", "a whole step of 256"])
@pytest.mark.parametrize("length", [16, 40, None])
@pytest.mark.parametrize("borders", [(), (10, 16)], ids=["one piece", "pieces"])
def test_a_snapshot_is_never_changed_by_its_caches(base, prefix, length, borders):
    snapshot = cut(base.snapshot(prefix), *borders) if borders else base.snapshot(prefix)
    length = len(prefix) if length is None else length
    copies = values_of(snapshot)
    expected = logits(base, MORE, snapshot.to_caches(length))

    left, right = snapshot.to_caches(length), snapshot.to_caches(length)
    logits(base, OTHER, left)
    assert mx.array_equal(logits(base, MORE, right), expected).item()
    for cache in left:
        cache.trim(len(OTHER) + 2)  # into the snapshot's own tokens
    logits(base, OTHER, left)
    assert is_unchanged(snapshot, copies)
    assert mx.array_equal(logits(base, MORE, snapshot.to_caches(length)), expected).item()


def test_the_caches_a_snapshot_was_taken_from_may_go_on(base):
    tokens = PREFIX * 6 + PREFIX[:16]
    caches = make_prompt_cache(base.model)
    base.prefill(tokens, caches)
    snapshot = Snapshot.of(tokens, caches)
    copies = values_of(snapshot)
    for cache in caches:
        cache.trim(3)
    logits(base, OTHER, caches)
    assert is_unchanged(snapshot, copies)


def test_a_snapshot_is_the_base_s_even_while_an_adapter_is_active(base):
    from tests.adapters.adapters import adapter_for

    before = values_of(base.snapshot(PREFIX))
    adapter = base.bank.load(adapter_for(base.bank, 1))
    base.bank.activate(adapter)
    try:
        assert is_unchanged(base.snapshot(PREFIX), before)
        assert base.bank.active is adapter
        fresh = make_prompt_cache(base.model)
        base.prefill(PREFIX, fresh)
        assert not is_unchanged(Snapshot.of(PREFIX, fresh), before)
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
