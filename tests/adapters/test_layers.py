"""Embeddings, experts, heads and norms: wrapped when an adapter needs them, and only then."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.tuner.lora import LoRAEmbedding, LoRASwitchLinear

from dualtune_mlx.adapters import (
    Adapter,
    AdapterBank,
    AdapterConfig,
    FusionCache,
    LoRAUpdate,
    SavedModule,
    TrainedTokenRows,
)
from dualtune_mlx.errors import AdapterError
from dualtune_mlx.models import fingerprint
from tests import tiny
from tests.adapters.adapters import TOKENS, Q, adapter_for, rewrite, same

MOE = {
    "hidden_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
EMBEDDING, HEAD, NORM, UP = "model.embed_tokens", "lm_head", "model.norm", "model.layers.1.mlp.switch_mlp.up_proj"


def model(kind="llama", quantized=False, **changes):
    own = MOE if kind == "qwen2_moe" else {}
    return tiny.unwrapped(kind=kind, quantized=quantized, **{"tie_word_embeddings": False, **own, **changes})


def normal(*shape, seed=0, scale=0.3):
    return mx.random.normal(shape, key=mx.random.key(seed)) * scale


LAYERS = {
    EMBEDDING: LoRAUpdate(normal(272, 3), normal(3, 32, seed=1), 1.5),
    HEAD: LoRAUpdate(normal(32, 2), normal(2, 272, seed=1), 0.5),
    Q: LoRAUpdate(normal(32, 5), normal(5, 32, seed=2), 2.0),
    UP: LoRAUpdate(normal(4, 3, 32), normal(4, 32, 3, seed=3), 0.75),
}
WHOLE = {
    EMBEDDING: TrainedTokenRows(mx.array([30, 7]), normal(2, 32)),
    HEAD: SavedModule({"weight": normal(272, 32)}),
    NORM: SavedModule({"weight": normal(32)}),
}


def adapter_of(*paths, whole=(), **changes) -> Adapter:
    layers, own = {path: LAYERS[path] for path in paths}, {path: WHOLE[path] for path in whole}
    scales = {path: update.scale for path, update in layers.items()}
    config = AdapterConfig(0, 0.0, "all", (0, None), (), scales=scales, modules=tuple(own), **changes)
    return Adapter.from_layers(config, layers, own)


CASES = {
    "embedding": ("llama", adapter_of(EMBEDDING)),
    "head": ("llama", adapter_of(HEAD)),
    "all of them": ("llama", adapter_of(Q, EMBEDDING, whole=(HEAD, NORM))),
    "rows": ("llama", adapter_of(whole=(EMBEDDING,))),
    "experts": ("qwen2_moe", adapter_of(UP, HEAD)),
}


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("kind", "adapter"), CASES.values(), ids=CASES)
def test_switching_gives_the_base_back_bit_for_bit(kind, adapter, quantized):
    network = model(kind, quantized)
    base, hashed = network(TOKENS), fingerprint(network)
    bank = AdapterBank(network)
    resident = bank.load(adapter)
    assert same(network(TOKENS), base)
    bank.activate(resident)
    acting = network(TOKENS)
    assert not mx.allclose(acting, base, atol=1e-2).item()
    with bank.overriding({}):
        assert same(network(TOKENS), base)
    with bank.overriding(resident.updates):
        assert same(network(TOKENS), acting)
    bank.activate(None)
    assert same(network(TOKENS), base)
    assert fingerprint(network) == hashed
    again = AdapterBank(network)
    assert again.layers == bank.layers
    again.activate(again.load(adapter))
    assert same(network(TOKENS), acting)


@pytest.mark.parametrize("adapter", [adapter for _, adapter in CASES.values()], ids=CASES)
def test_it_comes_back_from_its_files(tmp_path, adapter):
    adapter.save(tmp_path / "a")
    back = Adapter.load(tmp_path / "a")
    assert (back.content_hash, back.config) == (adapter.content_hash, adapter.config)
    assert [type(one) for one in back.modules.values()] == [type(one) for one in adapter.modules.values()]
    assert back.nbytes == adapter.nbytes


def test_each_module_gives_what_its_own_weights_would():
    network, expected = model(), model()
    bank = AdapterBank(network)
    bank.activate(bank.load(adapter_of(Q, EMBEDDING, HEAD)))
    for path in (Q, EMBEDDING, HEAD):
        module, update = dict(expected.named_modules())[path], LAYERS[path]
        change = update.scale * (update.a @ update.b)
        module.weight = module.weight + (change if path == EMBEDDING else change.T)
    assert mx.allclose(network(TOKENS), expected(TOKENS), atol=1e-4).item()


@pytest.mark.parametrize("tokens", [3, 50])
def test_experts_and_embeddings_are_mlx_lm_s(tokens):
    network = model("qwen2_moe")
    ids = mx.arange(tokens)[None]
    bank = AdapterBank(network)
    bank.activate(bank.load(adapter_of(UP, EMBEDDING)))
    theirs = model("qwen2_moe")
    switch, up = theirs.model.layers[1].mlp.switch_mlp, LAYERS[UP]
    switch.up_proj = LoRASwitchLinear.from_base(switch.up_proj, r=3, scale=up.scale)
    switch.up_proj.lora_a, switch.up_proj.lora_b = up.a, up.b
    theirs.model.embed_tokens = LoRAEmbedding.from_base(theirs.model.embed_tokens, r=3, scale=LAYERS[EMBEDDING].scale)
    theirs.model.embed_tokens.lora_a, theirs.model.embed_tokens.lora_b = LAYERS[EMBEDDING].a, LAYERS[EMBEDDING].b
    assert mx.allclose(network(ids), theirs.eval()(ids), atol=1e-5).item()


@pytest.mark.parametrize("tied", [True, False])
def test_rows_replace_the_embedding_s_and_a_tied_head_s(tied):
    network, expected = model(tie_word_embeddings=tied), model(tie_word_embeddings=tied)
    bank = AdapterBank(network)
    bank.activate(bank.load(adapter_of(whole=(EMBEDDING,))))
    expected.model.embed_tokens.weight[mx.array([30, 7])] = WHOLE[EMBEDDING].rows
    assert mx.allclose(network(TOKENS), expected(TOKENS), atol=1e-5).item()


def test_rows_of_a_layer_keep_its_bias():
    linear = nn.Linear(8, 6)
    rows = TrainedTokenRows(mx.array([4, 1]), normal(2, 8))
    x = normal(3, 8, seed=5)
    expected = np.array(linear(x))
    expected[:, [4, 1]] = np.array(x @ rows.rows.T + linear.bias[mx.array([4, 1])])
    assert np.allclose(np.array(rows(x, linear)), expected, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_a_low_rank_update_of_an_embedding_leaves_a_tied_head_alone(tied):
    network = model(tie_word_embeddings=tied)
    bank = AdapterBank(network)
    bank.activate(bank.load(adapter_of(EMBEDDING)))
    states, plain = normal(1, 2, 32), model(tie_word_embeddings=tied)
    head = network.model.embed_tokens.as_linear if tied else network.lm_head
    expected = plain.model.embed_tokens.as_linear if tied else plain.lm_head
    assert same(head(states), expected(states))


def test_an_adapter_of_other_modules_is_not_fused():
    bank = AdapterBank(model())
    fusion = FusionCache(bank, 2**30, "always")
    resident = bank.load(adapter_of(Q, EMBEDDING))
    fusion.activate(resident)
    assert bank.fused == {} and bank.active is resident
    fusion.prepare(resident)
    assert bank.fused == {}
    plain = bank.load(adapter_for(bank, 1))
    fusion.activate(plain)
    assert plain.content_hash in bank.fused


@pytest.mark.parametrize(
    ("path", "update", "words"),
    [
        ("model.layers.9.mlp", LAYERS[Q], "the model has no such module"),
        ("model.layers.0.mlp", LAYERS[Q], "nothing: no such update fits it"),
        (NORM, LAYERS[Q], "nothing: no such update fits it"),
        (EMBEDDING, LAYERS[Q], r"a \(32, 5\), b \(5, 32\) instead of a \(272, 5\), b \(5, 32\)"),
        (EMBEDDING, replace(LAYERS[EMBEDDING], magnitude=mx.ones(32)), "nothing: no such update fits it"),
        (HEAD, LAYERS[Q], r"b \(5, 32\) instead of a \(32, 5\), b \(5, 272\)"),
        (Q, LAYERS[UP], r"instead of a \(32, 3\), b \(3, 32\)"),
        (HEAD, SavedModule({"weight": normal(271, 32)}), r"weight \(271, 32\) instead of weight \(272, 32\)"),
        (HEAD, SavedModule({"weight": normal(272, 32), "bias": normal(272)}), "instead of weight"),
        (EMBEDDING, SavedModule({"weight": normal(272, 31)}), r"instead of weight \(272, 32\)"),
        (NORM, TrainedTokenRows(mx.array([1]), normal(1, 32)), "nothing: no such update fits it"),
        (EMBEDDING, TrainedTokenRows(mx.array([272]), normal(1, 32)), r"rows that it has not among \[272\]"),
        (EMBEDDING, TrainedTokenRows(mx.array([-1]), normal(1, 32)), r"rows that it has not among \[-1\]"),
        (HEAD, TrainedTokenRows(mx.array([1]), normal(1, 31)), r"instead of rows \(1, 32\)"),
    ],
)
@pytest.mark.parametrize("quantized", [False, True])
def test_an_update_that_does_not_fit_is_named(path, update, words, quantized):
    low_rank = isinstance(update, LoRAUpdate)
    config = adapter_of().config
    config = replace(config, scales={path: 1.0} if low_rank else {}, modules=() if low_rank else (path,))
    adapter = Adapter.from_layers(config, {path: update} if low_rank else {}, {} if low_rank else {path: update})
    bank = AdapterBank(model(quantized=quantized))
    with pytest.raises(AdapterError, match=f"does not fit(?s:.*){path}: (?s:.*){words}"):
        bank.load(adapter)
    assert bank.other_layers == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.norm.weight": None}, ["model.norm", "no tensors"]),
        ({"model.norm.weight": mx.full((32,), mx.nan)}, ["model.norm", "finite"]),
        ({"model.norm.rows": mx.ones((1, 32))}, ["model.norm", "weight, rows"]),
        ({"model.embed_tokens.row_ids": mx.array([7, 7])}, ["model.embed_tokens", "different numbers"]),
        ({"model.embed_tokens.row_ids": mx.array([7])}, ["model.embed_tokens", "as many"]),
        ({"model.embed_tokens.rows": None}, ["model.embed_tokens", "row_ids"]),
        ({"other.weight": mx.ones(3)}, ["other.weight: unexpected"]),
    ],
)
def test_bad_whole_tensors_are_named(tmp_path, changes, words):
    adapter_of(Q, whole=(EMBEDDING, NORM)).save(tmp_path / "a")
    rewrite(tmp_path / "a", **{key.replace(".", "/"): value for key, value in changes.items()})
    with pytest.raises(AdapterError) as caught:
        Adapter.load(tmp_path / "a")
    for word in words:
        assert word in str(caught.value)


def test_missing_layers_of_a_list_are_named(tmp_path):
    adapter_of(Q, HEAD).save(tmp_path / "a")
    rewrite(tmp_path / "a", **{f"{HEAD}.lora_a": None, f"{HEAD}.lora_b": None})
    with pytest.raises(AdapterError, match=f"{HEAD}: missing"):
        AdapterBank(model()).load(tmp_path / "a")
