"""Real (tiny) models: the cache changes nothing but the work."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_map

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.kv import PrefixCache, PrefixStore, PrefixWarning, Snapshot, kv_fingerprint
from dualtune_mlx.models import BaseModel
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.kv.fakes import same

TYPES = [mx.float32, mx.float16, mx.bfloat16]


def make_base(kind: str = "llama", dtype: mx.Dtype = mx.float32, seed: int = 0, **changes) -> BaseModel:
    network = tiny.unwrapped(seed, kind, **changes)
    network.update(tree_map(lambda array: array.astype(dtype), network.parameters()))
    return BaseModel(f"tiny-{kind}", network, tiny.tokenizer())


def kv_of(base: BaseModel, tokens: Sequence[int], adapter: Adapter | None = None) -> Snapshot:
    caches = base.new_caches()
    with base.bank.overriding(adapter.layers if adapter else {}):
        base.prefill(tokens, caches)
    return Snapshot.of(tuple(tokens), caches)


def cache_of(base: BaseModel, folder: Path | None = None, adapters: Sequence[Adapter] = (), **options) -> PrefixCache:
    cache = PrefixCache(kv_fingerprint(base.model, base.fingerprint), **options)
    known = {adapter.content_hash: adapter for adapter in adapters}
    if folder:
        cache.attach(folder, lambda tokens, content: kv_of(base, tokens, known[content] if content else None))
    return cache


def store_of(base: BaseModel, folder: Path) -> PrefixStore:
    return PrefixStore(folder, kv_fingerprint(base.model, base.fingerprint), lambda tokens, _: kv_of(base, tokens))


def logits(base: BaseModel, cache: PrefixCache, tokens: tuple[int, ...], adapter: Adapter | None) -> tuple:
    """The logits after all tokens, computed as a stage does it, and how many tokens were known."""
    content = adapter.content_hash if adapter else ""
    snapshot, known = cache.find_longest(tokens[:-1], content)
    caches = snapshot.to_caches(known) if snapshot else base.new_caches()
    with base.bank.overriding(adapter.layers if adapter else {}):
        if known < len(tokens) - 1:
            base.prefill(tokens[known:-1], caches)
            snapshot = Snapshot.of(tokens[:-1], caches)
            cache.add(snapshot, content)
            caches = snapshot.to_caches(len(tokens) - 1)
        return base.head(base.hidden(mx.array([tokens[-1:]]), caches))[0, -1], known


def from_scratch(base: BaseModel, tokens: tuple[int, ...], adapter: Adapter | None) -> mx.array:
    with base.bank.overriding(adapter.layers if adapter else {}):
        result = base.model(mx.array([tokens]))[0, -1]
        mx.eval(result)
    return result


def random_streams(seed: int, count: int) -> list[tuple[int, ...]]:
    chance = random.Random(seed)
    streams: list[tuple[int, ...]] = []
    for _ in range(count):
        begun = chance.choice(streams) if streams and chance.random() < 0.75 else ()
        begun = begun[: chance.randint(0, len(begun))]
        streams.append((*begun, *(chance.randrange(250) for _ in range(chance.randint(2, 40)))))
    return streams


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "qwen3", "ministral3"])
@pytest.mark.parametrize("room", [30, 10_000])
def test_logits_are_the_same_with_and_without_the_cache(kind, room):
    """Random streams under three adapters or none; in the kinds with windows most of them are longer than these."""
    base = make_base(kind)
    adapters = [None, *(base.bank.load(adapter_for(base.bank, seed)) for seed in (1, 2, 3))]
    cache = cache_of(base, budget=room * base.snapshot((1,)).bytes_per_token)
    chance, reused = random.Random(5), 0
    for tokens in random_streams(1, 70):
        adapter = chance.choice(adapters)
        found, known = logits(base, cache, tokens, adapter)
        assert mx.allclose(found, from_scratch(base, tokens, adapter), rtol=1e-4, atol=1e-4).item()
        assert cache.nbytes <= cache.budget
        reused += known
    assert reused > (0 if room == 30 else 300)


@pytest.mark.parametrize("length", [5, tiny.WINDOW, tiny.WINDOW + 1, 3 * tiny.WINDOW, 79, 80])
@pytest.mark.parametrize("where", ["in memory", "on disk"])
def test_a_sliding_window_model_s_prefix_may_be_cut_anywhere(tmp_path, where, length):
    base = make_base("gemma3_text")
    tokens = tuple((37 * i + i * i) % 250 for i in range(80))
    cache = cache_of(base, tmp_path)
    if where == "in memory":
        cache.add(base.snapshot(tokens))
    else:
        store_of(base, tmp_path).save(base.snapshot(tokens))
        cache = cache_of(base, tmp_path)
        assert cache.find_longest(tokens)[1] == 80
    stream = (*tokens[:length], 249, 11, 12)
    found, known = logits(base, cache, stream, None)
    assert known == length
    assert mx.allclose(found, from_scratch(base, stream, None), rtol=1e-4, atol=1e-4).item()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_disk_is_bit_for_bit(tmp_path, kind, dtype):
    base = make_base(kind, dtype)
    tokens = tuple((7 * i) % 250 for i in range(70))
    written = base.snapshot(tokens)
    assert written.layout[0][2] == dtype
    store_of(base, tmp_path).save(written)
    read, length = cache_of(base, tmp_path).find_longest((*tokens, 3))
    assert length == 70
    assert same(read, written)
    more = mx.array([[3, 1, 4]])
    one, other = (base.head(base.hidden(more, snapshot.to_caches(70))) for snapshot in (read, written))
    assert mx.array_equal(one, other).item()


ROPE = {"rope_theta": 500.0}
SCALED = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
EPS = {"rms_norm_eps": 1e-3}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"dtype": mx.bfloat16},
        {"kind": "ministral3"},
        {"layers": 3},
        ROPE,
        SCALED,
        EPS,
    ],
    ids=str,
)
def test_a_file_of_another_model_never_serves(tmp_path, other):
    """Also where the other model has the very same weights, and only reads them in another way."""
    tokens = tuple(range(30))
    store_of(make_base(), tmp_path).save(make_base().snapshot(tokens))
    assert cache_of(make_base(), tmp_path).find_longest(tokens)[1] == 30
    with pytest.warns(PrefixWarning, match="another fingerprint"):
        assert cache_of(make_base(**other), tmp_path).find_longest(tokens) == (None, 0)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"kind": "gemma3_text"}, {"dtype": mx.bfloat16}, {"layers": 3}], ids=str
)
def test_nor_does_it_where_the_fingerprints_are_the_same(tmp_path, other):
    """A fingerprint takes samples of the weights; the model itself has the last word."""
    tokens = tuple(range(30))
    base, another = make_base(), make_base(**other)
    PrefixStore(tmp_path, "same", lambda tokens, _: base.snapshot(tokens)).save(base.snapshot(tokens))
    cache = PrefixCache("same")
    cache.attach(tmp_path, lambda tokens, _: another.snapshot(tokens))
    with pytest.warns(PrefixWarning, match="the model"):
        assert cache.find_longest(tokens) == (None, 0)


def test_an_adapter_s_file_serves_that_adapter_alone(tmp_path):
    base, tokens = make_base(), tuple(range(30))
    one, two = (base.bank.load(adapter_for(base.bank, seed)) for seed in (1, 2))
    files = store_of(base, tmp_path)
    files.save(kv_of(base, tokens, one), one.content_hash)
    cache = cache_of(base, tmp_path, (one, two))
    assert [cache.find_longest(tokens, content)[1] for content in ("", two.content_hash, one.content_hash)] == [
        0,
        0,
        30,
    ]
    assert same(cache.find_longest(tokens, one.content_hash)[0], kv_of(base, tokens, one))
    files.save(kv_of(base, tokens, one), two.content_hash)  # a lie, with a right checksum
    with pytest.warns(PrefixWarning, match="the model itself computes other"):
        assert cache_of(base, tmp_path, (one, two)).find_longest(tokens, two.content_hash) == (None, 0)


def test_the_fingerprint_of_keys_and_values_stays_while_a_model_is_used():
    base = make_base()
    before = kv_fingerprint(base.model, base.fingerprint)
    base.bank.activate(base.bank.load(adapter_for(base.bank, 1)))
    base.snapshot((1, 2, 3))
    again = make_base()
    assert before == kv_fingerprint(base.model, base.fingerprint) == kv_fingerprint(again.model, again.fingerprint)
