"""Adapter folders: written whole, read back bit for bit, loaded by mlx-lm, refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from errno import ENOSPC

import mlx.core as mx
import pytest
from mlx_lm.tuner.utils import load_adapters

from dualtune_mlx.adapters import Adapter, AdapterBank, LoRAUpdate
from dualtune_mlx.errors import AdapterError, UsageError
from tests import tiny
from tests.adapters.adapters import DOWN, Q, adapter_for, plain, reconfigure, rewrite, same

STRAY = "model.layers.9.mlp.up_proj"


@pytest.mark.parametrize("activation", ["all", "turn", "invocation"])
def test_an_adapter_comes_back_bit_for_bit(bank, tmp_path, activation):
    adapter = adapter_for(bank, 1, activation, rank=3, scale=0.75)
    adapter.save(tmp_path / "a")
    back = Adapter.load(tmp_path / "a")
    assert (back.config, back.content_hash) == (adapter.config, adapter.content_hash)
    assert back.layers.keys() == adapter.layers.keys()
    for name, update in adapter.layers.items():
        assert same(back.layers[name].a, update.a)
        assert same(back.layers[name].b, update.b)
        assert back.layers[name].scale == 0.75
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "adapter_config.json", "adapters.safetensors"]


def test_saving_again_replaces_the_older_adapter(bank, saved):
    newer = adapter_for(bank, 2)
    newer.save(saved)
    assert Adapter.load(saved).content_hash == newer.content_hash
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]


def test_the_content_is_the_weights_and_the_configuration(bank):
    one, again, other = adapter_for(bank, 1), adapter_for(bank, 1), adapter_for(bank, 2)
    assert one.content_hash == again.content_hash != other.content_hash
    contents = {one.content_hash}
    changes = ({"rank": 5}, {"scale": 3.0}, {"activation": "turn"}, {"layers": (-1, None)}, {"layers": (0, 2)})
    for change in (*changes, {"keys": ("mlp.up_proj",)}, {"kind": "dora"}, {"dropout": 0.1}):
        contents.add(Adapter.from_layers(replace(one.config, **change), one.layers).content_hash)
    b = one.layers[Q].b
    nudged = LoRAUpdate(one.layers[Q].a, mx.where(mx.arange(b.size).reshape(b.shape) == 0, b + 1e-6, b), 2.0)
    contents.add(Adapter.from_layers(one.config, {**one.layers, Q: nudged}).content_hash)
    assert len(contents) == 10


def test_a_magnitude_is_part_of_the_content(bank):
    one = adapter_for(bank, 1, dora=True)
    louder = replace(one.layers[Q], magnitude=one.layers[Q].magnitude * 1.001)
    assert Adapter.from_layers(one.config, {**one.layers, Q: louder}).content_hash != one.content_hash


def test_the_bytes_of_an_adapter_are_those_of_all_its_arrays(bank):
    lora, dora = adapter_for(bank, 1), adapter_for(bank, 1, dora=True)
    inputs_and_outputs = [bank.layers[name].linear.weight.shape for name in bank.layers]
    assert lora.nbytes == sum(4 * 4 * (i + o) for o, i in inputs_and_outputs)
    assert dora.nbytes == lora.nbytes + sum(4 * o for o, _ in inputs_and_outputs)
    assert bank.load(dora).nbytes == dora.nbytes + sum(4 * o for o, _ in inputs_and_outputs)


@pytest.mark.parametrize("rank", [3, 5])
def test_a_rank_that_is_not_the_tensors_is_refused(bank, saved, rank):
    lora = json.loads((saved / "adapter_config.json").read_text())["lora_parameters"]
    reconfigure(saved, lora_parameters={**lora, "rank": rank})
    with pytest.raises(
        AdapterError, match=f"does not fit(?s:.*){Q}: a \\(32, 4\\), b \\(4, 32\\) instead of a \\(32, {rank}\\)"
    ):
        bank.load(saved)


@pytest.mark.parametrize("num_layers", [-1, 0, 2, 30])
def test_no_number_of_layers_means_all_of_them_as_in_mlx_lm(bank, saved, num_layers):
    reconfigure(saved, num_layers=num_layers)
    assert len(bank.load(saved).layers) == len(bank.layers)
    rewrite(saved, **{f"{Q}.lora_a": None, f"{Q}.lora_b": None})
    with pytest.raises(AdapterError, match=f"{Q}: missing"):
        bank.load(saved)


def test_an_adapter_that_mlx_lm_wrote_acts_everywhere_in_all_linear_layers(bank, saved):
    config = json.loads((saved / "adapter_config.json").read_text())
    del config["dualtune"], config["lora_parameters"]["keys"]
    (saved / "adapter_config.json").write_text(json.dumps(config))
    loaded = bank.load(saved)
    assert (loaded.config.activation, loaded.config.rank, loaded.config.keys) == ("all", 4, ())
    loaded.save(saved)
    assert Adapter.load(saved).content_hash == loaded.content_hash
    load_adapters(plain(), str(saved))
    rewrite(saved, **{f"{Q}.lora_a": None, f"{Q}.lora_b": None})
    with pytest.raises(AdapterError, match=f"{Q}: missing"):
        bank.load(saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{Q}.lora_a": None}, [f"{Q}.lora_a: missing", "lora_a, lora_b of each layer (lora)"]),
        ({f"{Q}.lora_b": None, f"{DOWN}.lora_a": None}, [f"{Q}.lora_b: missing", f"{DOWN}.lora_a: missing"]),
        ({"odd": mx.zeros((2, 2))}, ["got: odd: unexpected", "not those of its kind"]),
        ({f"{Q}.m": mx.ones(32)}, [f"got: {Q}.m: unexpected"]),
        ({f"{Q}.lora_a": mx.full((32, 4), mx.nan)}, [f"{Q}.lora_a", "not finite"]),
        ({f"{Q}.lora_a": mx.full((32, 4), mx.inf), f"{DOWN}.lora_b": mx.zeros(4)}, [f"{Q}.lora_a", f"{DOWN}.lora_b"]),
    ],
)
def test_bad_tensors_are_all_named(saved, changes, words):
    rewrite(saved, **changes)
    with pytest.raises(AdapterError) as caught:
        Adapter.load(saved)
    for word in [*words, "adapters.safetensors"]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{Q}.lora_a": mx.zeros((31, 4)), f"{DOWN}.lora_b": mx.zeros((4, 33))}, [Q, "(31, 4)", DOWN, "(4, 33)"]),
        ({f"{Q}.lora_b": mx.zeros((5, 32))}, [f"{Q}: a (32, 4), b (5, 32) instead of a (32, 4), b (4, 32)"]),
        ({f"{STRAY}.lora_a": mx.zeros((32, 4)), f"{STRAY}.lora_b": mx.zeros((4, 64))}, [f"{STRAY}: the model has no"]),
        ({f"{name}.lora_{part}": None for name in (Q, DOWN) for part in "ab"}, [f"{Q}: missing", f"{DOWN}: missing"]),
    ],
    ids=["two wrong shapes", "wrong rank", "unknown layer", "missing layers"],
)
def test_an_adapter_that_does_not_fit_names_every_layer(bank, saved, changes, words):
    rewrite(saved, **changes)
    with pytest.raises(AdapterError, match="does not fit the model") as caught:
        bank.load(saved)
    for word in words:
        assert word in str(caught.value)


def test_an_adapter_of_a_larger_model_is_refused(saved):
    smaller = AdapterBank(tiny.unwrapped(layers=1))
    with pytest.raises(AdapterError, match="model.layers.1.mlp.down_proj: the model has no such"):
        smaller.load(saved)
    assert smaller.resident == ()


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, keep):
    path = saved / "adapters.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(AdapterError, match="weights cannot be read(?s:.*)adapters.safetensors"):
        Adapter.load(saved)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapters.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(AdapterError, match=f"cannot be read(?s:.*){name}"):
        Adapter.load(saved)


def test_a_failed_save_leaves_the_older_adapter_and_nothing_else(bank, saved, monkeypatch):
    older = Adapter.load(saved).content_hash

    def fail_half_way(file, tensors, metadata):
        del tensors, metadata
        file.write(b"half")
        raise OSError(ENOSPC, "no space left")

    monkeypatch.setattr(mx, "save_safetensors", fail_half_way)
    with pytest.raises(UsageError, match="cannot be written(?s:.*)no space"):
        adapter_for(bank, 2).save(saved)
    with pytest.raises(UsageError, match="cannot be written(?s:.*)no space"):
        adapter_for(bank, 2).save(saved.parent / "new")
    assert Adapter.load(saved).content_hash == older
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]
