"""Architectures: names by llama.cpp's own table, fields as configuration, rotary positions, and what is refused."""

from __future__ import annotations

import json
import math

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from dualtune_mlx.conversion.gguf import from_gguf, plan_conversion
from dualtune_mlx.conversion.gguf.architecture import ARCHITECTURES, OFF
from tests.conversion.gguf import writer as gguf
from tests.conversion.gguf.test_convert import TOKENS, check_refused

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize("kind", gguf.KINDS)
def test_the_names_are_those_of_llama_cpp_s_table(kind):
    package = pytest.importorskip("gguf", reason="needs the extra gguf")
    table = package.get_tensor_name_map(package.MODEL_ARCH[kind.upper()], 3)
    for ours, mlx in ARCHITECTURES[kind].tensor_names(3).items():
        assert table.get_name(mlx, try_suffixes=(".weight", ".bias")) == ours


def test_heads_may_be_wider_than_their_share_of_the_states(tmp_path):
    model = gguf.network("llama", head_dim=16)
    widths = {"arch_attention.key_length": 16, "arch_attention.value_length": 16, "arch_rope.dimension_count": 16}
    path = gguf.write(tmp_path / "m.gguf", gguf.fields("llama", **widths), gguf.tensors("llama", model))
    assert mx.array_equal(load(path)(TOKENS), model(TOKENS)).item()


def test_a_head_width_that_goes_without_saying_may_be_said(tmp_path):
    widths = {"arch_attention.key_length": 8, "arch_attention.value_length": 8, "arch_rope.dimension_count": 8}
    path = gguf.tiny_gguf(tmp_path / "m.gguf", **widths, arch_vocab_size=272)
    assert "head_dim" not in plan_conversion(path).config
    assert mx.array_equal(load(path)(TOKENS), gguf.network()(TOKENS)).item()


@pytest.mark.parametrize("kind", gguf.KINDS)
def test_linear_scaling_of_positions_is_carried_over(tmp_path, kind):
    scaling = {"arch_rope.scaling.type": "linear", "arch_rope.scaling.factor": 8.0}
    model = gguf.network(kind, rope_scaling={"rope_type": "linear", "factor": 8.0})
    path = gguf.write(tmp_path / "m.gguf", gguf.fields(kind, **scaling), gguf.tensors(kind, model))
    assert mx.array_equal(load(path)(TOKENS), model(TOKENS)).item()
    assert not mx.array_equal(model(TOKENS), gguf.network(kind)(TOKENS)).item()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_yarn_is_carried_over(tmp_path, kind):
    fields = {"arch_rope.scaling.type": "yarn", "arch_rope.scaling.factor": 4.0}
    fields |= {"arch_rope.scaling.original_context_length": 32, "arch_rope.scaling.finetuned": True}
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    model = gguf.network(kind, rope_scaling=scaling)
    path = gguf.write(tmp_path / "m.gguf", gguf.fields(kind, **fields), gguf.tensors(kind, model))
    assert mx.array_equal(load(path)(TOKENS), model(TOKENS)).item()


def llama3_factors(base: float, width: int) -> np.ndarray:
    """One factor a frequency, as llama.cpp's converter writes them."""
    factors = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * base ** (i / width)
        turns = LLAMA3["original_max_position_embeddings"] / wavelength
        if turns > LLAMA3["high_freq_factor"]:
            factors.append(1.0)
        elif turns < LLAMA3["low_freq_factor"]:
            factors.append(LLAMA3["factor"])
        else:
            smooth = (turns - LLAMA3["low_freq_factor"]) / (LLAMA3["high_freq_factor"] - LLAMA3["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / LLAMA3["factor"] + smooth))
    return np.array(factors, np.float32)


def test_llama_3_s_factors_become_its_scaling(tmp_path):
    base, width = 500000.0, 16
    factors = llama3_factors(base, width)
    assert len(set(factors.tolist())) > 2  # kept, stretched, and one in between
    scaling = {"rope_type": "llama3", **LLAMA3}
    model = gguf.network("llama", rope_theta=base, head_dim=width, rope_scaling=scaling)
    tensors = {**gguf.tensors("llama", model), "rope_freqs.weight": gguf.tensor(factors)}
    fields = gguf.fields("llama", **{"arch_rope.freq_base": base, "arch_attention.key_length": width})
    path = gguf.write(tmp_path / "m.gguf", fields, tensors)
    assert plan_conversion(path).config["rope_scaling"] == scaling
    assert mx.array_equal(load(path)(TOKENS), model(TOKENS)).item()


def test_factors_of_one_scale_nothing(tmp_path):
    tensors = {**gguf.tensors(), "rope_freqs.weight": gguf.tensor(np.ones(4))}
    path = gguf.write(tmp_path / "m.gguf", gguf.fields(), tensors)
    assert "rope_scaling" not in plan_conversion(path).config


@pytest.mark.parametrize(
    "factors", [[1, 2, 3, 8], [1, 1, 8], [8, 8, 8, 8], [1, 1, float("nan"), 8], [0.5, 0.5, 0.5, 0.5]]
)
def test_other_factors_are_refused(tmp_path, factors):
    tensors = {**gguf.tensors(), "rope_freqs.weight": gguf.tensor(np.array(factors))}
    path = gguf.write(tmp_path / "m.gguf", gguf.fields(**{"arch_rope.freq_base": 500000.0}), tensors)
    check_refused(path, ["scales its positions", "rope_freqs.weight", "the 4 factors of Llama 3's scaling"])


def test_gemma_3_27b_scales_its_scores_by_its_width(tmp_path):
    shape = {"layers": 62, "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window_pattern": 6}
    model = gguf.network("gemma3", query_pre_attn_scalar=16, **shape)
    fields = {"arch_block_count": 62, "arch_attention.head_count": 2, "arch_attention.head_count_kv": 1}
    fields |= {"arch_attention.sliding_window_pattern": None}  # 6, where it is not given
    path = gguf.write(tmp_path / "m.gguf", gguf.fields("gemma3", **fields), gguf.tensors("gemma3", model))
    config = plan_conversion(path).config
    assert (config["query_pre_attn_scalar"], config["head_dim"]) == (32 // 2, 8)
    assert mx.array_equal(load(path)(TOKENS), model(TOKENS)).item()


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llama", {"arch_block_count": None}, ["lacks a field", "llama.block_count"]),
        ("llama", {"arch_block_count": 2**31}, ["llama.block_count = 2147483648", "a whole number from 1 on"]),
        ("llama", {"arch_block_count": 10**6}, ["lacks tensors", "llama.block_count = 1000000", "at most 20"]),
        ("llama", {"arch_block_count": 3}, ["lacks a tensor", "blk.2.attn_norm.weight"]),
        ("llama", {"arch_block_count": 1}, ["no place in the model", "blk.1."]),
        ("llama", {"arch_embedding_length": "wide"}, ["llama.embedding_length = 'wide'", "a whole number"]),
        ("llama", {"arch_embedding_length": 2**16}, ["shape", "token_embd.weight", "(272, 32)"]),
        ("llama", {"arch_feed_forward_length": 65}, ["shape", "blk.0.ffn_", "65"]),
        ("llama", {"arch_attention.head_count": True}, ["llama.attention.head_count = True", "a whole number"]),
        ("llama", {"arch_attention.head_count": 0}, ["llama.attention.head_count = 0"]),
        ("llama", {"arch_attention.head_count": 64}, ["heads cannot be rotated", "even width"]),
        ("llama", {"arch_attention.head_count": 5}, ["cannot share", "head_count_kv = 2", "a divisor of 5"]),
        ("llama", {"arch_attention.head_count": [4, 4]}, ["head_count = [4, 4]"]),
        ("llama", {"arch_attention.layer_norm_rms_epsilon": float("nan")}, ["rms_epsilon = nan", "a positive number"]),
        ("llama", {"arch_attention.value_length": 4}, ["unequal width", "llama.attention.value_length = 4"]),
        ("llama", {"arch_rope.dimension_count": 4}, ["unequal width", "llama.rope.dimension_count = 4"]),
        (
            "qwen2",
            {"arch_attention.key_length": 16, "arch_attention.value_length": 16},
            ["heads", "qwen2.attention.key_length = 16", "32 / 4"],
        ),
        ("llama", {"arch_rope.freq_base": -1.0}, ["llama.rope.freq_base = -1.0"]),
        ("llama", {"arch_rope.scaling.type": "longrope"}, ["positions", "llama.rope.scaling.type = 'longrope'"]),
        ("llama", {"arch_rope.scaling.type": "yarn"}, ["positions", "original context length"]),
        (
            "llama",
            {"arch_rope.scaling.yarn_beta_fast": 16.0},
            ["not known", "yarn_beta_fast = 16.0"],
        ),
        ("llama", {"arch_vocab_size": 300}, ["llama.vocab_size = 300", "272"]),
        ("llama", {"arch_expert_count": 8}, ["not known", "llama.expert_count = 8"]),
        ("llama", {"arch_expert_count": False}, ["not known", "llama.expert_count = False"]),
        ("llama", {"arch_attention.causal": False}, ["not known", "llama.attention.causal = False"]),
        ("llama", {"arch_attn_logit_softcapping": 50.0}, ["not known", "llama.attn_logit_softcapping = 50.0"]),
        ("gemma3", {"arch_final_logit_softcapping": 30.0}, ["not known", "gemma3.final_logit_softcapping = 30.0"]),
        ("gemma3", {"arch_attention.sliding_window": None}, ["lacks a field", "gemma3.attention.sliding_window"]),
        ("gemma3", {"arch_attention.sliding_window_pattern": None}, ["without a sliding window", "at least 6"]),
        (
            "gemma3",
            {
                "arch_rope.scaling.type": "yarn",
                "arch_rope.scaling.factor": 4.0,
                "arch_rope.scaling.original_context_length": 32,
            },
            ["positions", "gemma3.rope.scaling.type = 'yarn'", "none or linear"],
        ),
    ],
)
def test_fields_that_are_impossible_or_not_known_are_refused_by_name(tmp_path, kind, changes, words):
    check_refused(gguf.tiny_gguf(tmp_path / "m.gguf", kind, **changes), words)


def test_a_field_that_is_off_changes_nothing(tmp_path):
    off = {f"arch_{name}": value for name, value in OFF.items()}
    plain = plan_conversion(gguf.tiny_gguf(tmp_path / "plain.gguf"))
    assert plan_conversion(gguf.tiny_gguf(tmp_path / "off.gguf", **off)).config == plain.config


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blk.0.ffn_gate_inp.weight", ["no place in the model", "blk.0.ffn_gate_inp.weight"]),
        ("blk.0.attn_q_norm.weight", ["no place in the model", "blk.0.attn_q_norm.weight"]),
        ("blk.00.attn_q.weight", ["no place in the model", "blk.00.attn_q.weight"]),
        ("../../mystery.weight", ["no place in the model", "../../mystery.weight"]),
    ],
)
def test_a_tensor_too_many_is_refused_by_name(tmp_path, name, words):
    tensors = {**gguf.tensors(), name: gguf.tensor(np.ones(4))}
    check_refused(gguf.write(tmp_path / "m.gguf", gguf.fields(), tensors), words)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("llama", "blk.1.attn_q.weight"), ("qwen2", "blk.0.attn_k.bias"), ("qwen3", "blk.1.attn_k_norm.weight")],
)
def test_a_missing_tensor_is_named(tmp_path, kind, name):
    tensors = gguf.tensors(kind)
    del tensors[name]
    check_refused(gguf.write(tmp_path / "m.gguf", gguf.fields(kind), tensors), ["lacks a tensor", name])


def load(path):
    folder = from_gguf(path, path.parent / "out")
    assert json.loads((folder / "config.json").read_text())["model_type"]
    return mlx_lm.load(str(folder))[0]
