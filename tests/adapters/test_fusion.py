"""The fusion cache: who is fused when, within a budget of bytes, and that the base is never written."""

from __future__ import annotations

import random
from math import inf

import mlx.core as mx
import mlx.nn as nn
import pytest

from dualtune_mlx.adapters import Adapter, AdapterBank, FusionCache, LoRAUpdate, fusion
from dualtune_mlx.adapters.lora import FusedWeight
from dualtune_mlx.errors import AdapterError, UsageError
from tests.adapters.adapters import TOKENS, adapter_for, plain, same


class World:
    """A tiny model, some resident adapters, and a cache that has room for ``room`` of them."""

    def __init__(
        self, adapters: int = 4, room: float = 2, policy: str = "always", quantised: bool = False, **options
    ) -> None:
        self.model = plain("qwen2", quantised)
        self.base = self.model(TOKENS)
        self.bank = AdapterBank(self.model)
        self.adapters = [self.bank.load(adapter_for(self.bank, seed)) for seed in range(1, adapters + 1)]
        self.size = sum(
            4 * layer.linear.weight.shape[0] * inputs_of(layer.linear) for layer in self.bank.layers.values()
        )
        self.cache = FusionCache(self.bank, int(room * self.size), policy, **options)

    def fused(self) -> set[int]:
        """The adapters that are fused, counted from 0."""
        return {i for i, adapter in enumerate(self.adapters) if adapter.content_hash in self.bank.fused}

    def activate(self, *which: int) -> World:
        for i in which:
            self.cache.activate(self.adapters[i])
        return self

    def forms(self) -> set[type]:
        return {type(layer.active_update) for layer in self.bank.layers.values()}


def inputs_of(linear: nn.Module) -> int:
    return linear.weight.shape[1] * (32 // linear.bits if isinstance(linear, nn.QuantizedLinear) else 1)


def test_any_sequence_leaves_the_base_as_it_is():
    generator = random.Random(0)
    for policy in ("always", "auto"):
        world = World(6, 2.5, policy, measure=lambda *_: 20.0)
        bank, cache = world.bank, world.cache
        untouched = dict(plain("qwen2").named_modules())

        def step(adapter: Adapter, world: World = world, bank: AdapterBank = bank, cache: FusionCache = cache) -> None:
            actions = {
                "activate": lambda: cache.activate(adapter, generator.randrange(20)),
                "prepare": lambda: cache.prepare(adapter),
                "forget": lambda: cache.forget(adapter),
                "reload": lambda: (bank.unload(adapter), bank.load(adapter)),
                "plainly": lambda: bank.activate(adapter),
                "clear": cache.clear,
                "empty": lambda: [bank.clear(), *map(bank.load, world.adapters)],
            }
            often = ["activate"] * 20 + ["prepare"] * 6 + ["plainly"] * 3 + ["forget", "reload"] * 2
            actions[generator.choice([*often, "clear", "empty"])]()

        for _ in range(150):
            step(generator.choice(world.adapters))
            assert cache.nbytes <= cache.budget
            if generator.random() < 0.3:
                with bank.overriding({}):
                    assert same(world.model(TOKENS), world.base)
            if generator.random() < 0.3:
                cache.activate(None)
                assert same(world.model(TOKENS), world.base)
        assert cache.fusions > 5 and cache.hits > 5
        bank.clear()
        assert same(world.model(TOKENS), world.base)
        for name, layer in bank.layers.items():
            assert same(layer.linear.weight, untouched[name].weight)


def test_what_acts_is_the_adapter_that_was_activated():
    world = World(4, 2)
    expected = []
    for adapter in world.adapters:
        world.bank.activate(adapter)
        expected.append(world.model(TOKENS))
    generator = random.Random(1)
    for _ in range(40):
        i = generator.randrange(4)
        if generator.random() < 0.5:
            world.cache.activate(None)
            world.cache.prepare(world.adapters[i])
        world.activate(i)
        assert mx.allclose(world.model(TOKENS), expected[i], rtol=1e-4, atol=1e-4).item()
    assert world.cache.evictions > 5


def test_switching_between_fused_adapters_changes_references_and_nothing_else(monkeypatch):
    world = World(2, 2).activate(0, 1)
    fused = [world.bank.fused[adapter.content_hash] for adapter in world.adapters]
    mx.eval([layer.weight for layers in fused for layer in layers.values()])

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    for name in ("eval", "async_eval", "dequantize", "zeros"):
        monkeypatch.setattr(mx, name, refuse)
    memory = mx.get_active_memory()
    for i in (0, 1, 0):
        world.activate(i)
        assert all(layer.active_update is fused[i][name] for name, layer in world.bank.layers.items())
    world.cache.activate(None)
    assert all(layer.active_update is None for layer in world.bank.layers.values())
    assert mx.get_active_memory() == memory
    assert (world.cache.hits, world.cache.fusions, world.bank.switches) == (3, 2, 6)


def test_off_never_fuses():
    world = World(policy="off").activate(*[0] * 9)
    world.cache.prepare(world.adapters[0])
    assert (world.fused(), world.forms()) == (set(), {LoRAUpdate})


def test_always_fuses_at_once():
    assert World(policy="always").activate(0).forms() == {FusedWeight}


def test_auto_fuses_when_more_tokens_were_run_than_fusing_costs():
    asked = []
    world = World(policy="auto", measure=lambda *given: asked.append(given) or 100.0)
    one, two = world.adapters[:2]
    world.activate(0, 0)
    assert not asked
    world.cache.activate(one, 60)
    world.cache.count_tokens(one, 39)
    world.activate(0)
    assert world.fused() == set()
    world.cache.count_tokens(one, 1)
    world.cache.prepare(two)
    assert world.fused() == set()
    world.activate(0)
    assert world.fused() == {0}
    world.cache.activate(two, 1000)
    assert world.fused() == {0, 1}
    assert asked == [(world.bank, one, None)]


def test_auto_never_fuses_where_that_saves_nothing():
    world = World(policy="auto", measure=lambda *_: inf)
    world.cache.activate(world.adapters[0], 10**9)
    assert world.fused() == set()


def test_nothing_is_measured_where_nothing_can_be_fused():
    def refuse(*_):
        raise AssertionError("measured")

    for world in (
        World(room=0.5, policy="auto", measure=refuse),
        World(quantised=True, policy="auto", measure=refuse),
    ):
        world.cache.activate(world.adapters[0], 10**9)
        assert (world.fused(), world.forms()) == (set(), {LoRAUpdate})


@pytest.mark.parametrize("dtype", [None, mx.bfloat16])
def test_the_break_even_is_the_time_to_fuse_over_the_time_that_a_token_saves(monkeypatch, dtype):
    world = World(1)
    seconds = {LoRAUpdate: 0.010, FusedWeight: 0.008, type(None): 0.5}

    def read_seconds(make):
        assert make()
        return max(seconds[form] for form in world.forms() - {type(None)} or {type(None)})

    monkeypatch.setattr(fusion, "_seconds", read_seconds)
    assert fusion.measure_break_even(world.bank, world.adapters[0], dtype) == pytest.approx(0.5 / 0.002)
    seconds[FusedWeight] = 0.011
    assert fusion.measure_break_even(world.bank, world.adapters[0], dtype) == inf
    assert world.forms() == {type(None)}


@pytest.mark.parametrize("quantised", [False, True])
def test_the_break_even_can_be_measured(quantised):
    found = []

    def measure(*given) -> float:
        found.append(fusion.measure_break_even(*given))
        return found[-1]

    world = World(1, 1, "auto", quantised, fuse_to="float32" if quantised else None, measure=measure)
    world.cache.activate(world.adapters[0], 1)
    assert len(found) == 1 and found[0] > 0


def test_the_least_recently_used_goes_first():
    world = World(4, 2).activate(0, 1, 0, 2)
    assert world.fused() == {0, 2}
    world.cache.prepare(world.adapters[0])
    world.activate(3)
    assert world.fused() == {0, 3}
    assert world.cache.evictions == 2


def test_an_evicted_adapter_earns_its_place_again():
    world = World(2, 1, "auto", measure=lambda *_: 3.0)
    for adapter in world.adapters:
        world.cache.activate(adapter, 3)
    assert world.fused() == {1}
    world.cache.activate(world.adapters[0], 2)
    assert world.fused() == {1}
    world.cache.activate(world.adapters[0], 1)
    assert world.fused() == {0}


def test_preparing_leaves_what_acts():
    world = World(3, 1).activate(0)
    acting = world.model(TOKENS)
    world.cache.prepare(world.adapters[1])
    assert world.fused() == {0}  # what acts is not evicted for it
    assert same(world.model(TOKENS), acting)
    world.cache.activate(None)
    world.cache.prepare(world.adapters[1])
    assert world.fused() == {1}
    assert (world.bank.switches, world.bank.active, world.cache.hits) == (2, None, 0)
    assert same(world.model(TOKENS), world.base)
    world.activate(1)
    assert (world.cache.hits, world.forms()) == (1, {FusedWeight})
    with world.bank.overriding(world.adapters[1].layers):
        expected = world.model(TOKENS)
    assert mx.allclose(world.model(TOKENS), expected, rtol=1e-4, atol=1e-4).item()


def test_preparing_does_not_wait(monkeypatch):
    world = World(1)
    monkeypatch.setattr(mx, "eval", None)
    world.cache.prepare(world.adapters[0])
    assert world.fused() == {0}


def test_a_larger_adapter_than_the_budget_stays_low_rank():
    world = World(2, 0.99).activate(0, 0, 1)
    assert (world.fused(), world.forms(), world.cache.nbytes) == (set(), {LoRAUpdate}, 0)
    exact = World(2, 1).activate(0)
    assert (exact.fused(), exact.cache.nbytes) == ({0}, exact.size)


def test_a_byte_less_is_no_room():
    world = World(2, 2)
    world.cache.budget -= 1
    assert world.activate(0, 1).fused() == {1}


def test_room_is_made_only_where_it_suffices():
    world = World(3, 2)
    half = world.bank.load(adapter_for(world.bank, 9, layers="first:1"))
    world.cache.activate(half)
    world.activate(0)  # what acts is not evicted
    assert world.cache.nbytes == 1.5 * world.size
    world.cache.resize(int(1.9 * world.size))
    world.cache.prepare(world.adapters[1])
    assert half.content_hash in world.bank.fused and world.cache.evictions == 0


def test_a_quantised_base_stays_low_rank_unless_a_type_is_named():
    assert World(quantised=True).activate(0).forms() == {LoRAUpdate}
    world = World(quantised=True, room=0.5, fuse_to="bfloat16").activate(0, 1)
    assert world.forms() == {FusedWeight}
    assert {layer.weight.dtype for layer in world.bank.fused[world.adapters[1].content_hash].values()} == {mx.bfloat16}
    assert (world.cache.nbytes, world.fused()) == (world.size // 2, {1})


def test_forgetting_goes_back_to_low_rank():
    world = World(4, 2).activate(1, 0)
    acting = world.model(TOKENS)
    world.cache.forget(world.adapters[0])
    assert (world.fused(), world.forms(), world.bank.active) == ({1}, {LoRAUpdate}, world.adapters[0])
    assert mx.allclose(world.model(TOKENS), acting, rtol=1e-4, atol=1e-4).item()
    world.activate(0, 2, 3)
    assert world.fused() == {2, 3}
    world.cache.clear()
    assert (world.fused(), world.cache.nbytes, world.forms()) == (set(), 0, {LoRAUpdate})


@pytest.mark.parametrize("how", ["unload", "clear"])
def test_what_the_bank_forgets_is_released(how):
    world = World(2, 2).activate(0)
    if how == "unload":
        world.bank.unload(world.adapters[0])
    else:
        world.bank.clear()
    assert (world.cache.nbytes, world.bank.active) == (0, None)
    assert same(world.model(TOKENS), world.base)
    with pytest.raises(AdapterError, match="not in this bank"):
        world.activate(0)
    world.cache.forget(world.adapters[0])
    world.bank.load(world.adapters[0])
    assert World.forms(world.activate(0)) == {FusedWeight}


@pytest.mark.parametrize("call", ["activate", "prepare", "count_tokens"])
def test_a_stranger_is_refused(call):
    world = World(1)
    stranger = adapter_for(world.bank, 99)
    more = (1,) if call == "count_tokens" else ()
    with pytest.raises(AdapterError, match="not in this bank(?s:.*)load"):
        getattr(world.cache, call)(stranger, *more)
    assert world.bank.active is None


def test_an_override_goes_before_what_is_fused():
    world = World(2, 2).activate(0)
    fused = world.model(TOKENS)
    with world.bank.overriding(world.adapters[1].layers):
        assert world.forms() == {LoRAUpdate}
        world.cache.forget(world.adapters[0])
        world.activate(0)
        with world.bank.overriding({}):
            assert same(world.model(TOKENS), world.base)
        assert all(layer.active_update is world.adapters[1].layers[name] for name, layer in world.bank.layers.items())
    assert world.forms() == {FusedWeight}
    assert same(world.model(TOKENS), fused)


def test_the_adapter_s_content_counts_and_not_the_object():
    world = World(2, 2)
    again = adapter_for(world.bank, 1)
    world.cache.activate(again)
    assert again is not world.adapters[0] and world.fused() == {0}
    world.cache.forget(again)
    assert world.fused() == set()


@pytest.mark.parametrize(
    ("budget", "options", "words"),
    [
        (-1, {}, ["where: budget", "got: -1"]),
        (1, {"policy": "sometimes"}, ["where: policy", "'sometimes'", "off, always, auto"]),
        (1, {"fuse_to": "int8"}, ["where: fuse_to", "'int8'", "bfloat16, float16, float32"]),
    ],
)
def test_options_that_are_none_are_refused(budget, options, words):
    with pytest.raises(UsageError) as caught:
        FusionCache(AdapterBank(plain()), budget, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.fixture
def no_spare_buffers():
    """MLX gives an array a spare buffer of up to two pages more than it needs: here it has none to spare."""
    limit = mx.set_cache_limit(0)
    yield
    mx.set_cache_limit(limit)


@pytest.mark.usefixtures("no_spare_buffers")
def test_memory_never_exceeds_the_budget():
    world = World(30, 3.01)
    budget = world.cache.budget
    mx.eval([update.parts for adapter in world.adapters for update in adapter.layers.values()])
    baseline = measure_settled_bytes(world)
    generator, taken = random.Random(0), []
    for step in range(200):
        world.activate(generator.randrange(30))
        if step % 3 == 0:
            world.cache.prepare(world.adapters[generator.randrange(30)])
        taken.append(measure_settled_bytes(world) - baseline)
        assert world.cache.nbytes <= budget
    assert world.size <= max(taken) <= budget
    assert taken[-1] == pytest.approx(world.cache.nbytes, rel=0.002)  # the allocator notes each buffer's size
    assert world.cache.evictions > 100
    world.cache.clear()
    assert measure_settled_bytes(world) == baseline


def test_a_smaller_budget_releases_what_is_over_it_and_a_larger_one_lets_it_come_back():
    world = World(3, 3.01, policy="always")
    for number in range(3):
        world.activate(number)
    budget = world.cache.budget
    world.cache.resize(budget // 2)
    assert set(world.bank.fused) == {world.adapters[2].content_hash}, "the last one used is the last to go"
    world.cache.resize(0)
    assert not world.bank.fused
    world.activate(1)
    assert not world.bank.fused
    world.cache.resize(budget)
    world.activate(1)
    world.activate(2)
    assert set(world.bank.fused) == {world.adapters[1].content_hash, world.adapters[2].content_hash}


def measure_settled_bytes(world: World) -> int:
    """Bytes in use after a pass, with everything computed that was begun, and its intermediates released."""
    fused = [layer.weight for layers in world.bank.fused.values() for layer in layers.values()]
    mx.eval(world.model(TOKENS), fused)
    for stream in (mx.default_stream(mx.default_device()), world.cache._stream):
        mx.synchronize(stream)
    return mx.get_active_memory()
