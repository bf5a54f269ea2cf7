"""Adapter folders: written whole, read back bit for bit, loaded by mlx-lm, refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.tuner.utils import load_adapters

from dualtune_mlx.adapters import Adapter, AdapterBank, AdapterConfig, LowRank
from dualtune_mlx.errors import AdapterError
from tests import tiny
from tests.adapters.adapters import TOKENS, adapter_for, plain, same

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"
STRAY = "model.layers.9.mlp.up_proj"


@pytest.fixture(scope="module")
def bank() -> AdapterBank:
    return AdapterBank(plain())


@pytest.fixture
def saved(bank, tmp_path) -> Path:
    adapter_for(bank, 1).save(tmp_path / "adapter")
    return tmp_path / "adapter"


def rewrite(folder: Path, **changes) -> None:
    """Change tensors of a saved adapter; None takes one away."""
    path = folder / "adapters.safetensors"
    tensors = {**mx.load(str(path)), **{key.replace("/", "."): value for key, value in changes.items()}}
    mx.eval(tensors)
    mx.save_safetensors(str(path), {key: value for key, value in tensors.items() if value is not None})


def reconfigure(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("activation", ["all", "turn", "invocation"])
def test_an_adapter_comes_back_bit_for_bit(bank, tmp_path, activation):
    adapter = adapter_for(bank, 1, activation, rank=3, scale=0.75)
    adapter.save(tmp_path / "a")
    back = Adapter.load(tmp_path / "a")
    assert (back.config, back.content) == (adapter.config, adapter.content)
    assert back.layers.keys() == adapter.layers.keys()
    for name, update in adapter.layers.items():
        assert same(back.layers[name].a, update.a)
        assert same(back.layers[name].b, update.b)
        assert back.layers[name].scale == 0.75
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "adapter_config.json", "adapters.safetensors"]


def test_saving_again_replaces_the_older_adapter(bank, saved):
    newer = adapter_for(bank, 2)
    newer.save(saved)
    assert Adapter.load(saved).content == newer.content
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]


def test_the_content_is_the_weights_and_the_configuration(bank):
    one, again, other = adapter_for(bank, 1), adapter_for(bank, 1), adapter_for(bank, 2)
    assert one.content == again.content != other.content
    contents = {one.content}
    for change in ({"rank": 5}, {"scale": 3.0}, {"activation": "turn"}, {"num_layers": 1}, {"keys": ("mlp.up_proj",)}):
        contents.add(Adapter.from_layers(replace(one.config, **change), one.layers).content)
    b = one.layers[Q].b
    nudged = LowRank(one.layers[Q].a, mx.where(mx.arange(b.size).reshape(b.shape) == 0, b + 1e-6, b), 2.0)
    contents.add(Adapter.from_layers(one.config, {**one.layers, Q: nudged}).content)
    assert len(contents) == 7


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_mlx_lm_loads_an_adapter_that_acts_everywhere(tmp_path, kind):
    model = plain(kind)
    bank = AdapterBank(model)
    adapter = adapter_for(bank, 1)
    adapter.save(tmp_path / "a")
    bank.activate(bank.load(adapter))
    theirs = load_adapters(plain(kind), str(tmp_path / "a"))
    assert mx.allclose(model(TOKENS), theirs(TOKENS), rtol=1e-6, atol=1e-6).item()
    assert not mx.allclose(model(TOKENS), plain(kind)(TOKENS), rtol=1e-2, atol=1e-2).item()


def test_mlx_lm_loads_an_adapter_of_the_last_layers_only(tmp_path):
    model = plain()
    bank = AdapterBank(model)
    adapter = bank.load(adapter_for(bank, 1, layers=1))
    assert {name.split(".")[2] for name in adapter.layers} == {"1"}
    adapter.save(tmp_path / "a")
    bank.activate(adapter)
    theirs = load_adapters(plain(), str(tmp_path / "a"))
    assert mx.allclose(model(TOKENS), theirs(TOKENS), rtol=1e-6, atol=1e-6).item()


@pytest.mark.parametrize("rank", [3, 5])
def test_a_rank_that_is_not_the_tensors_is_refused(bank, saved, rank):
    lora = json.loads((saved / "adapter_config.json").read_text())["lora_parameters"]
    reconfigure(saved, lora_parameters={**lora, "rank": rank})
    with pytest.raises(AdapterError, match=f"does not fit(?s:.*){Q}: \\(32, 4\\) and \\(4, 32\\)(?s:.*)rank {rank}"):
        bank.load(saved)


@pytest.mark.parametrize("num_layers", [-1, 0, 2, 30])
def test_no_number_of_layers_means_all_of_them_as_in_mlx_lm(bank, saved, num_layers):
    reconfigure(saved, num_layers=num_layers)
    assert len(bank.load(saved).layers) == len(bank.slots)
    rewrite(saved, **{f"{Q}.lora_a": None, f"{Q}.lora_b": None})
    with pytest.raises(AdapterError, match=f"{Q}: missing"):
        bank.load(saved)


def test_an_adapter_that_mlx_lm_wrote_acts_everywhere(bank, saved):
    config = json.loads((saved / "adapter_config.json").read_text())
    del config["dualtune"], config["lora_parameters"]["keys"]
    (saved / "adapter_config.json").write_text(json.dumps(config))
    loaded = bank.load(saved)
    assert loaded.config.activation == "all"
    assert loaded.config.rank == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{Q}.lora_a": None}, [f"{Q}.lora_a", "pairs"]),
        ({f"{Q}.lora_b": None, f"{DOWN}.lora_a": None}, [f"{Q}.lora_b", f"{DOWN}.lora_a"]),
        ({"odd": mx.zeros((2, 2))}, ["odd.lora_a", "pairs"]),
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
        ({f"{Q}.lora_b": mx.zeros((5, 32))}, [Q, "(32, 4)", "(5, 32)"]),
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fine_tune_type": "dora"}, ["not supported", "dora", "expected: lora"]),
        ({"fine_tune_type": "full"}, ["not supported", "full"]),
        ({"dualtune": {"format": 2, "activation": "turn"}}, ["not supported", "format 2", "format 1"]),
        ({"dualtune": {"activation": "turn"}}, ["not supported", "format None"]),
        ({"dualtune": {"format": 1}}, ["lacks a field", "activation"]),
        ({"dualtune": {"format": 1, "activation": "always"}}, ["activation", "always", "invocation, turn, all"]),
        ({"dualtune": 1}, ["not supported"]),
        ({"lora_parameters": {"rank": 4}}, ["lacks a field", "scale"]),
        ({"lora_parameters": {"rank": "four", "scale": 1.0}}, ["four"]),
        ({"num_layers": None}, ["lacks a field"]),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(saved, changes, words):
    reconfigure(saved, **changes)
    with pytest.raises(AdapterError) as caught:
        Adapter.load(saved)
    for word in [*words, "adapter_config.json"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_a_configuration_that_is_no_json_object_is_refused(saved, text):
    (saved / "adapter_config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(AdapterError, match="configuration(?s:.*)adapter_config.json"):
        Adapter.load(saved)


def test_a_configuration_comes_back(tmp_path):
    config = AdapterConfig(3, 0.5, "turn", 2, ("mlp.up_proj",))
    assert AdapterConfig.from_dict(json.loads(json.dumps(config.to_dict())), tmp_path) == config


def test_a_failed_save_leaves_the_older_adapter_and_nothing_else(bank, saved, monkeypatch):
    older = Adapter.load(saved).content

    def broken(path, tensors, metadata):
        del tensors, metadata
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(mx, "save_safetensors", broken)
    with pytest.raises(OSError, match="no space"):
        adapter_for(bank, 2).save(saved)
    with pytest.raises(OSError, match="no space"):
        adapter_for(bank, 2).save(saved.parent / "new")
    assert Adapter.load(saved).content == older
    assert [path.name for path in saved.parent.iterdir()] == ["adapter"]
