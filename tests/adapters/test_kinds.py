"""LoRA and DoRA adapters of any layers: saved, resident, and loaded by mlx-lm with the same logits."""

from __future__ import annotations

import json
from dataclasses import replace

import mlx.core as mx
import pytest
from mlx_lm.tuner.utils import load_adapters

from dualtune_mlx.adapters import Adapter, AdapterBank, LoRAUpdate, lora
from dualtune_mlx.adapters.lora import row_norms
from dualtune_mlx.errors import AdapterError
from tests import tiny
from tests.adapters.adapters import DOWN, TOKENS, Q, adapter_for, plain, reconfigure, rewrite, same


@pytest.mark.parametrize("layers", ["all", "last:1", "first:1"])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(("kind", "quantised"), [("llama", False), ("qwen2", False), ("qwen2", True)])
def test_mlx_lm_loads_an_adapter_that_acts_everywhere(tmp_path, kind, quantised, dora, layers):
    model = plain(kind, quantised)
    bank = AdapterBank(model)
    adapter = adapter_for(bank, 1, layers=layers, dora=dora, dropout=0.5)
    chosen = {"all": {"0", "1"}, "last:1": {"1"}, "first:1": {"0"}}[layers]
    assert {name.split(".")[2] for name in adapter.layers} == chosen
    adapter.save(tmp_path / "a")
    bank.activate(bank.load(tmp_path / "a"))
    theirs = load_adapters(plain(kind, quantised), str(tmp_path / "a")).eval()
    assert mx.allclose(model(TOKENS), theirs(TOKENS), rtol=1e-5, atol=2e-6).item()
    assert not mx.allclose(model(TOKENS), plain(kind, quantised)(TOKENS), rtol=1e-2, atol=1e-2).item()


@pytest.mark.parametrize("dora", [False, True])
def test_mlx_lm_loads_what_matches_the_targets(tmp_path, dora):
    model = plain()
    bank = AdapterBank(model)
    adapter_for(bank, 1, targets=("q_proj", "mlp.*"), dora=dora).save(tmp_path / "a")
    bank.activate(bank.load(tmp_path / "a"))
    theirs = load_adapters(plain(), str(tmp_path / "a"))
    assert mx.allclose(model(TOKENS), theirs(TOKENS), rtol=1e-5, atol=2e-6).item()


def test_dora_comes_back_bit_for_bit(bank, tmp_path):
    adapter = adapter_for(bank, 1, "turn", layers="first:1", dora=True, dropout=0.1)
    adapter.save(tmp_path / "a")
    back = Adapter.load(tmp_path / "a")
    assert (back.config, back.content_hash) == (adapter.config, adapter.content_hash)
    for name, update in adapter.layers.items():
        for part, array in update.parts.items():
            assert same(back.layers[name].parts[part], array)
    saved = mx.load(str(tmp_path / "a" / "adapters.safetensors"))
    assert saved[f"{Q}.m"].shape == (32,)
    assert len(saved) == 3 * 7


def test_a_resident_adapter_drops_nothing(bank, tmp_path):
    adapter_for(bank, 1, dora=True, dropout=0.9).save(tmp_path / "a")
    for update in bank.load(tmp_path / "a").layers.values():
        assert (update.dropout, update.key) == (0.0, None)


@pytest.mark.parametrize(("kind", "quantised"), [("llama", False), ("qwen2", True)])
def test_a_fresh_dora_adapter_changes_nothing_yet(kind, quantised):
    model = plain(kind, quantised)
    base = model(TOKENS)
    bank = AdapterBank(model)
    fresh = bank.new_adapter(rank=4, scale=2.0, activation="all", seed=1, dora=True)
    with bank.overriding(fresh.layers):
        assert mx.array_equal(model(TOKENS), base).item()
    bank.activate(bank.load(fresh))
    assert mx.array_equal(model(TOKENS), base).item()


def test_the_norms_of_a_resident_adapter_are_not_computed_again(monkeypatch):
    model = plain()
    bank = AdapterBank(model)
    adapter = adapter_for(bank, 1, dora=True)
    resident = bank.load(adapter)
    assert resident.content_hash == adapter.content_hash
    for name, update in resident.layers.items():
        assert same(update.norm, row_norms(bank.layers[name].linear, update))
    with bank.overriding(adapter.layers):
        expected = model(TOKENS)
        mx.eval(expected)

    def refuse(*_):
        raise AssertionError("the norm was computed again")

    monkeypatch.setattr(lora, "row_norms", refuse)
    with bank.overriding(adapter.layers), pytest.raises(AssertionError, match="computed again"):
        model(TOKENS)
    bank.activate(adapter)
    assert bank.active is resident
    assert same(model(TOKENS), expected)


def test_switching_between_the_kinds_gives_the_base_back():
    model = plain("qwen2", quantised=True)
    base = model(TOKENS)
    bank = AdapterBank(model)
    lora = bank.load(adapter_for(bank, 1))
    dora = bank.load(adapter_for(bank, 1, dora=True, layers="first:1"))
    seen = []
    for adapter in (lora, dora, None, dora, lora, None):
        bank.activate(adapter)
        seen.append(model(TOKENS))
    assert same(seen[2], base) and same(seen[5], base)
    assert same(seen[0], seen[4]) and same(seen[1], seen[3])
    assert not same(seen[0], seen[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{Q}.m": None}, [f"got: {Q}.m: missing", "expected: lora_a, lora_b, m of each layer (dora)"]),
        ({f"{Q}.lora_a": None, f"{Q}.lora_b": None}, [f"{Q}.lora_a: missing; {Q}.lora_b: missing"]),
        ({"m": mx.ones(3)}, ["got: m: unexpected"]),
        ({f"{Q}.m": mx.ones((32, 1))}, [f"got: {Q}.m\n", "another number of dimensions"]),
        ({f"{DOWN}.m": mx.full((32,), mx.nan)}, [f"got: {DOWN}.m\n", "not finite"]),
    ],
    ids=["no m", "only m", "stray m", "a matrix", "not finite"],
)
def test_bad_magnitudes_are_named(bank, tmp_path, changes, words):
    adapter_for(bank, 1, dora=True).save(tmp_path / "a")
    rewrite(tmp_path / "a", **changes)
    with pytest.raises(AdapterError) as caught:
        Adapter.load(tmp_path / "a")
    for word in [*words, "adapters.safetensors"]:
        assert word in str(caught.value)


def test_a_magnitude_of_another_length_does_not_fit(bank, tmp_path):
    adapter_for(bank, 1, dora=True).save(tmp_path / "a")
    rewrite(tmp_path / "a", **{f"{Q}.m": mx.ones(31)})
    with pytest.raises(AdapterError, match=f"{Q}: a .*, m \\(31,\\) instead of a .*, m \\(32,\\)"):
        bank.load(tmp_path / "a")


@pytest.mark.parametrize("dora", [False, True])
def test_layers_of_the_other_kind_do_not_fit(bank, dora):
    adapter = adapter_for(bank, 1, dora=dora)
    other = replace(adapter.config, kind="lora" if dora else "dora")
    with pytest.raises(AdapterError, match=f"does not fit(?s:.*){Q}: a .* instead of a "):
        bank.load(Adapter.from_layers(other, adapter.layers))


def test_layers_outside_of_the_configuration_do_not_fit(bank, tmp_path):
    adapter = adapter_for(bank, 1, layers="first:1")
    adapter.save(tmp_path / "a")
    bank.load(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    reconfigure(tmp_path / "a", dualtune={**config["dualtune"], "layers": [1, 2]})
    with pytest.raises(AdapterError) as caught:
        bank.load(tmp_path / "a")
    assert f"{Q}: not in the layers and keys" in str(caught.value)
    assert f"{DOWN}: missing" in str(caught.value)
    stray = LoRAUpdate(mx.zeros((32, 4)), mx.zeros((4, 32)), 2.0)
    one_key = replace(adapter.config, keys=("mlp.up_proj",))
    up = "model.layers.0.mlp.up_proj"
    with pytest.raises(AdapterError, match=f"got: {Q}: not in the layers and keys"):
        bank.load(Adapter.from_layers(one_key, {up: adapter.layers[up], Q: stray}))


def test_the_first_layers_mean_the_same_ones_in_a_larger_model(bank, tmp_path):
    adapter_for(bank, 1, layers="first:1").save(tmp_path / "first")
    adapter_for(bank, 1, layers="last:1").save(tmp_path / "last")
    larger = AdapterBank(tiny.unwrapped(layers=3))
    larger.load(tmp_path / "first")
    with pytest.raises(AdapterError, match="model.layers.2.mlp.down_proj: missing"):
        larger.load(tmp_path / "last")
