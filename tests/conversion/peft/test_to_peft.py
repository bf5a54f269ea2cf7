"""Our adapters as PEFT's files, without torch: names, fields, and what PEFT cannot express."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from errno import ENOSPC

import mlx.core as mx
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from dualtune_mlx.adapters import Adapter, AdapterBank, AdapterConfig, LoRAUpdate, SavedModule, TrainedTokenRows
from dualtune_mlx.conversion.peft import from_peft, to_peft
from dualtune_mlx.conversion.peft.config import EMPTY_VALUES, FIELDS
from dualtune_mlx.errors import ConversionError, UsageError
from tests import tiny
from tests.adapters.adapters import adapter_for, plain
from tests.conversion.peft.files import CONFIG, PREFIX, WEIGHTS

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
GATE, UP = "model.layers.0.mlp.switch_mlp.gate_proj", "model.layers.0.mlp.switch_mlp.up_proj"
ROUTER = "model.layers.0.mlp.gate"
NORM = SavedModule({"weight": mx.ones(32)})


@pytest.fixture(scope="module")
def bank():
    return AdapterBank(plain())


def update(rank=4, scale=2.0, inputs=32, outputs=32, seed=0):
    key = mx.random.key(seed)
    return LoRAUpdate(mx.random.normal((inputs, rank), key=key), mx.random.normal((rank, outputs), key=key), scale)


def experts(rank=2, scale=1.0, seed=0, a=None):
    """4 experts, 32 inputs and 24 outputs."""
    key = mx.random.key(seed)
    a = mx.random.normal((4, rank, 32), key=key) if a is None else a
    return LoRAUpdate(a, mx.random.normal((4, 24, a.shape[1]), key=key), scale)


def list_tensors(layers, whole=None, **changes):
    config = AdapterConfig(0, 0.0, "all", (0, None), ())
    scales = {path: one.scale for path, one in layers.items()}
    config = replace(config, scales=scales, modules=tuple(whole or ()), **changes)
    return Adapter.from_layers(config, layers, whole)


def write_adapter(adapter, folder, **options):
    to_peft(adapter, folder / "peft", **options)
    return json.loads((folder / "peft" / CONFIG).read_text()), load_file(folder / "peft" / WEIGHTS)


def test_the_folder_holds_peft_s_names_and_nothing_else(bank, tmp_path):
    adapter = adapter_for(bank, 1, rank=3, scale=2.0, targets=("q_proj",))
    config, tensors = write_adapter(adapter, tmp_path, model="some/model")
    assert sorted(os.listdir(tmp_path / "peft")) == [CONFIG, WEIGHTS]
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 6, False)
    assert config["base_model_name_or_path"] == "some/model"
    assert config["target_modules"] == [f"model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    q_projs = [f"{PREFIX}model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    assert tensors.keys() == {f"{path}.lora_{part}.weight" for path in q_projs for part in "AB"}
    assert np.array_equal(tensors[f"{PREFIX}{Q}.lora_A.weight"], np.array(adapter.layers[Q].a).T)
    assert config.keys() <= FIELDS.keys()


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("layers", ["all", "last:1", "first:1"])
def test_an_adapter_comes_back_as_it_was(bank, tmp_path, layers, dora):
    adapter = adapter_for(bank, 1, scale=0.7, layers=layers, dora=dora, dropout=0.25, targets=("mlp.*",))
    to_peft(adapter, tmp_path / "peft")
    back = from_peft(str(tmp_path / "peft"), tmp_path / "ours")
    assert all(same(back.layers[path], one) for path, one in adapter.layers.items())
    assert back.config.decoder_layers(2) == adapter.config.decoder_layers(2)
    assert replace(back.config, layers=adapter.config.layers) == adapter.config


def same(left, right):
    return left.scale == right.scale and all(
        left.parts[part].dtype == array.dtype and mx.array_equal(left.parts[part], array).item()
        for part, array in right.parts.items()
    )


@pytest.mark.parametrize(
    "scales",
    [[1.0, 2.0], [0.1, 1 / 3], [8 / math.sqrt(6), 5 / math.sqrt(3)], [1e-7, 12345.678], [math.pi, math.e]],
    ids=str,
)
@pytest.mark.parametrize("ranks", [(4, 4), (3, 7), (6, 64)], ids=str)
def test_every_scale_comes_back_bit_for_bit(tmp_path, ranks, scales):
    layers = {Q: update(ranks[0], scales[0]), DOWN: update(ranks[1], scales[1], 64, 32)}
    to_peft(list_tensors(layers), tmp_path / "peft")
    back = from_peft(str(tmp_path / "peft"), tmp_path / "ours")
    assert {path: (one.rank, one.scale) for path, one in back.layers.items()} == dict(
        zip((Q, DOWN), zip(ranks, scales, strict=True), strict=True)
    )


def test_rslora_is_recognised_by_its_whole_alphas(tmp_path):
    config, _ = write_adapter(
        list_tensors({Q: update(8, 16 / math.sqrt(8)), DOWN: update(2, 4 / math.sqrt(2))}), tmp_path
    )
    assert (config["use_rslora"], config["r"], config["lora_alpha"]) == (True, 8, 16)
    assert list(config["rank_pattern"].values()) == [2]
    assert list(config["alpha_pattern"].values()) == [4]


def test_a_scale_without_an_alpha_is_refused(tmp_path):
    with pytest.raises(ConversionError, match=f"no alpha(?s:.*){Q}: 1e\\+308"):
        to_peft(list_tensors({Q: update(4, 1e308)}), tmp_path / "peft")
    assert os.listdir(tmp_path) == []


def test_embeddings_rows_and_weights_have_their_names(tmp_path):
    layers = {"model.embed_tokens": update(4, 2.0, 272, 32), Q: update()}
    whole = {"model.norm": NORM, "lm_head": TrainedTokenRows(mx.array([5, 3]), mx.ones((2, 32)))}
    config, tensors = write_adapter(list_tensors(layers, whole), tmp_path)
    assert tensors[f"{PREFIX}model.embed_tokens.lora_embedding_A"].shape == (4, 272)
    assert tensors[f"{PREFIX}model.embed_tokens.lora_embedding_B"].shape == (32, 4)
    assert tensors[f"{PREFIX}lm_head.token_adapter.trainable_tokens_delta"].shape == (2, 32)
    assert f"{PREFIX}model.norm.weight" in tensors
    assert (config["modules_to_save"], config["trainable_token_indices"]) == (["model.norm"], {"lm_head": [5, 3]})


def test_a_wrapped_language_model_has_transformers_names(tmp_path):
    path = "language_model.model.layers.0.self_attn.q_proj"
    config, tensors = write_adapter(list_tensors({path: update()}), tmp_path)
    assert config["target_modules"] == ["model.language_model.layers.0.self_attn.q_proj"]
    assert all(name.startswith(f"{PREFIX}model.language_model.layers.0.") for name in tensors)


@pytest.mark.parametrize("shared", [True, False], ids=["one A", "an A each"])
def test_gate_and_up_become_one_update(tmp_path, shared):
    gate = experts(2)
    up = experts(2, seed=1, a=gate.a if shared else None)
    config, tensors = write_adapter(list_tensors({GATE: gate, UP: up}), tmp_path)
    rank = 2 if shared else 4
    a = tensors[f"{PREFIX}model.layers.0.mlp.experts.lora_A.weight"].reshape(4, rank, 32)
    b = tensors[f"{PREFIX}model.layers.0.mlp.experts.lora_B.weight"].reshape(48, rank, 4)
    change = np.einsum("ore,eri->eoi", b, a)
    for own, rows in ((gate, change[:, :24]), (up, change[:, 24:])):
        assert np.allclose(rows, np.array(own.b) @ np.array(own.a), atol=1e-5)
    assert config["target_parameters"] == ["model.layers.0.mlp.experts.gate_up_proj"]
    assert config["r"] == rank and config["lora_alpha"] == rank and config["target_modules"] == []


def test_what_opens_an_activation_is_written_and_noted(bank, tmp_path):
    adapter = adapter_for(bank, 1, "turn")
    config, _ = write_adapter(adapter, tmp_path, invocation=(5, 6), fingerprint="f" * 64)
    assert (config["alora_invocation_tokens"], config["task_type"]) == ([5, 6], "CAUSAL_LM")
    with safe_open(tmp_path / "peft" / WEIGHTS, framework="numpy") as file:
        assert json.loads(file.metadata()["dualtune"]) == {"activation": "turn", "fingerprint": "f" * 64}
    assert from_peft(str(tmp_path / "peft"), tmp_path / "ours").config.activation == "turn"


def test_fields_of_no_importance_have_their_defaults(bank, tmp_path):
    config, _ = write_adapter(adapter_for(bank, 1), tmp_path)
    for key, field in FIELDS.items():
        if field.verdict != "carried over" and key not in ("runtime_config", "inference_mode"):
            assert config[key] == field.default or (config[key] in EMPTY_VALUES and field.default in EMPTY_VALUES), key


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (lambda bank: adapter_for(bank, 1, "turn"), ["no tokens", "turn", "--template"]),
        (lambda bank: adapter_for(bank, 1, "invocation", dora=True), ["activates only plain", "DoRA"]),
        (
            lambda bank: list_tensors({"model.embed_tokens": update(4, 2.0, 272)}, activation="tokens", tokens=(5,)),
            ["activates only plain", "model.embed_tokens"],
        ),
        (
            lambda bank: list_tensors({GATE: experts(), UP: experts()}, activation="tokens", tokens=(5,)),
            ["activates only plain", "gate_up_proj"],
        ),
        (
            lambda bank: list_tensors({Q: update()}, {"model.norm": NORM}, activation="tokens", tokens=(5,)),
            ["activates only plain", "model.norm"],
        ),
        (
            lambda bank: list_tensors({ROUTER: replace(update(), magnitude=mx.ones(32))}, kind="dora"),
            ["not PEFT's", "mlp.gate"],
        ),
        (lambda bank: list_tensors({}, {"model.norm": NORM}), ["without a low-rank update"]),
        (lambda bank: list_tensors({GATE: experts()}), ["one update for an expert's gate and up"]),
        (lambda bank: list_tensors({GATE: experts(), UP: experts(scale=3.0)}), ["one update for", "scale 3.0"]),
    ],
)
def test_what_peft_cannot_express_is_named(bank, tmp_path, adapter, words):
    given = {"invocation": (5,)} if "DoRA" in words else {}
    with pytest.raises(ConversionError) as caught:
        to_peft(adapter(bank), tmp_path / "peft", where="the adapter", **given)
    for word in [*words, "the adapter"]:
        assert word in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_existing_destination_is_kept(bank, tmp_path):
    with pytest.raises(UsageError, match="exists already"):
        to_peft(adapter_for(bank, 1), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_failure_while_writing_leaves_nothing(bank, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(ENOSPC, "no space left")

    monkeypatch.setattr(mx, "save_safetensors", broken)
    with pytest.raises(UsageError, match="cannot be written(?s:.*)no space"):
        to_peft(adapter_for(bank, 1), tmp_path / "peft")
    assert os.listdir(tmp_path) == []


def test_a_tiny_wrapper_s_adapter_goes_out_and_in(tmp_path):
    bank = AdapterBank(tiny.unwrapped(kind="gemma3"))
    adapter = adapter_for(bank, 1)
    to_peft(adapter, tmp_path / "peft")
    back = from_peft(str(tmp_path / "peft"), tmp_path / "ours")
    assert all(same(back.layers[path], one) for path, one in adapter.layers.items())
