"""The bank: with no adapter the model is the base, bit for bit, however often it was switched."""

from __future__ import annotations

import random

import mlx.core as mx
import mlx.nn as nn
import pytest

from dualtune_mlx.adapters import Adapter, AdapterBank, LoRAUpdate
from dualtune_mlx.errors import AdapterError
from tests.adapters.adapters import TOKENS, adapter_for, plain, same

KINDS = pytest.mark.parametrize(
    ("kind", "quantised"), [("llama", False), ("llama", True), ("qwen2", False), ("qwen2", True)]
)


@KINDS
def test_a_model_with_empty_slots_is_the_plain_model(kind, quantised):
    expected = plain(kind, quantised)(TOKENS)
    model = plain(kind, quantised)
    bank = AdapterBank(model)
    assert any(isinstance(layer.linear, nn.QuantizedLinear) for layer in bank.layers.values()) == quantised
    assert same(model(TOKENS), expected)


@KINDS
def test_any_sequence_of_switches_gives_the_base_back(kind, quantised):
    model = plain(kind, quantised)
    base = model(TOKENS)
    bank = AdapterBank(model)
    adapters: list[Adapter | None] = [None, *(bank.load(adapter_for(bank, seed)) for seed in (1, 2, 3))]
    expected: list[mx.array] = [base]
    for adapter in adapters[1:]:
        bank.activate(adapter)
        expected.append(model(TOKENS))
        assert not same(expected[-1], base)
    generator = random.Random(0)
    for _ in range(60):
        index = generator.randrange(len(adapters))
        bank.activate(adapters[index])
        if generator.random() < 0.3:
            with bank.overriding({}):
                assert same(model(TOKENS), base)
        assert same(model(TOKENS), expected[index])
    bank.activate(None)
    assert same(model(TOKENS), base)


def test_the_base_weights_are_never_written():
    model, untouched = plain(), plain()
    bank = AdapterBank(model)
    bank.activate(bank.load(adapter_for(bank, 1)))
    mx.eval(model(TOKENS))
    for name, layer in bank.layers.items():
        original = dict(untouched.named_modules())[name]
        assert same(layer.linear.weight, original.weight)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_low_rank_path_equals_the_merged_weights(kind):
    model, merged = plain(kind), plain(kind)
    bank = AdapterBank(model)
    adapter = bank.load(adapter_for(bank, 1, scale=1.5))
    bank.activate(adapter)
    modules = dict(merged.named_modules())
    for name, update in adapter.layers.items():
        modules[name].weight = modules[name].weight + 1.5 * (update.a @ update.b).T
    assert mx.allclose(model(TOKENS), merged(TOKENS), rtol=1e-5, atol=1e-5).item()
    assert not mx.allclose(model(TOKENS), plain(kind)(TOKENS), rtol=1e-2, atol=1e-2).item()


def test_the_low_rank_path_equals_mlx_lm_s_own_layer():
    from mlx_lm.tuner.lora import LoRALinear as MLXLoRALinear

    from dualtune_mlx.adapters import LoRALinear

    linear = nn.Linear(32, 48)
    theirs = MLXLoRALinear.from_base(linear, r=4, scale=3.0)
    theirs.lora_b = mx.random.normal(theirs.lora_b.shape)
    ours = LoRALinear(linear)
    ours.active_update = LoRAUpdate(theirs.lora_a, theirs.lora_b, 3.0)
    x = mx.random.normal((2, 5, 32))
    assert same(ours(x), theirs(x))


def test_the_output_keeps_the_base_s_type():
    model = plain()
    model.set_dtype(mx.float16)
    bank = AdapterBank(model)
    bank.activate(bank.load(adapter_for(bank, 1)))
    assert model(TOKENS).dtype == mx.float16


def test_a_fresh_adapter_changes_nothing_yet():
    model = plain()
    bank = AdapterBank(model)
    base = model(TOKENS)
    bank.activate(bank.load(bank.new_adapter(rank=4, scale=2.0, activation="all", seed=1)))
    assert mx.array_equal(model(TOKENS), base).item()


def test_the_same_content_is_resident_once():
    bank = AdapterBank(plain())
    one, two = bank.load(adapter_for(bank, 1)), bank.load(adapter_for(bank, 1))
    assert one is two
    bank.load(adapter_for(bank, 2))
    assert len(bank.resident) == 2


def test_switches_are_counted_and_no_change_is_none():
    bank = AdapterBank(plain())
    one = bank.load(adapter_for(bank, 1))
    for adapter in (None, one, one, None, None, one):
        bank.activate(adapter)
    assert bank.switches == 3


def test_an_adapter_of_another_bank_is_refused():
    bank, other = AdapterBank(plain()), AdapterBank(plain())
    stranger = other.load(adapter_for(other, 1))
    with pytest.raises(AdapterError, match="not in this bank(?s:.*)load"):
        bank.activate(stranger)


def test_unloading_takes_one_adapter_out():
    model = plain()
    base = model(TOKENS)
    bank = AdapterBank(model)
    one = bank.load(adapter_for(bank, 1))
    bank.load(adapter_for(bank, 2))
    bank.activate(one)
    acting = model(TOKENS)
    bank.unload(adapter_for(bank, 2))
    assert bank.resident == (one,) and bank.active is one
    assert same(model(TOKENS), acting)
    bank.unload(one)
    assert bank.resident == () and bank.active is None
    assert same(model(TOKENS), base)
    with pytest.raises(AdapterError, match="not in this bank"):
        bank.activate(one)


def test_clearing_takes_everything_out():
    model = plain()
    base = model(TOKENS)
    bank = AdapterBank(model)
    one = bank.load(adapter_for(bank, 1))
    bank.activate(one)
    bank.clear()
    assert same(model(TOKENS), base)
    assert bank.resident == ()
    with pytest.raises(AdapterError):
        bank.activate(one)


def test_a_failure_inside_an_overriding_block_restores_the_active_adapter():
    model = plain()
    bank = AdapterBank(model)
    bank.activate(bank.load(adapter_for(bank, 1)))
    expected = model(TOKENS)
    with pytest.raises(KeyError), bank.overriding({}):
        raise KeyError
    assert same(model(TOKENS), expected)


def test_a_second_bank_over_the_same_model_finds_the_same_slots():
    model = plain()
    first = AdapterBank(model)
    assert AdapterBank(model).layers == first.layers
    assert len(first.layers) == 2 * 7


def test_a_model_without_linear_layers_is_refused():
    class Nothing(nn.Module):
        layers = ()

    with pytest.raises(AdapterError, match="no linear layers(?s:.*)Nothing"):
        AdapterBank(Nothing())
