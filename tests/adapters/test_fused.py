"""Fused weights: what a layer and a model give with them, beside the low-rank updates that they stand for."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from dualtune_mlx.adapters import AdapterBank, FusionCache
from dualtune_mlx.adapters.lora import FusedWeight
from tests.adapters.adapters import TOKENS, adapter_for, plain, same
from tests.adapters.test_lora import BASES, apply, inputs, linear_for, update_for, wide
from tests.adapters.test_lora import plain as in_float64

KINDS = ("llama", "qwen2", "gemma3_text", "phi3")
LARGE = 10**9


def both(model: nn.Module, dora: bool = False, **options) -> tuple[mx.array, mx.array, mx.array]:
    """The logits of the base, of a low-rank adapter, and of the same one fused."""
    base = model(TOKENS)
    bank = AdapterBank(model)
    adapter = bank.load(adapter_for(bank, 1, dora=dora))
    bank.activate(adapter)
    low_rank = model(TOKENS)
    FusionCache(bank, LARGE, "always", **options).activate(adapter)
    assert bank.fused.keys() == {adapter.content_hash}
    return base, low_rank, model(TOKENS)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_logits_are_the_low_rank_ones(kind, dora):
    base, low_rank, fused = both(plain(kind), dora)
    size = mx.abs(low_rank).max().item()
    assert mx.abs(fused - low_rank).max().item() < 2e-5 * size
    assert mx.abs(base - low_rank).max().item() > 1e-2 * size


@pytest.mark.parametrize(("fuse_to", "tolerance"), [("float32", 2e-5), ("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(("kind", "quantised"), [("qwen2", True), ("llama", True), ("llama", False)])
def test_a_wider_type_holds_what_the_low_rank_path_gives(kind, quantised, dora, fuse_to, tolerance):
    _, low_rank, fused = both(plain(kind, quantised), dora, fuse_to=fuse_to)
    assert fused.dtype == low_rank.dtype
    assert mx.abs(fused - low_rank).max().item() < tolerance * mx.abs(low_rank).max().item()


@BASES
@pytest.mark.parametrize("dora", [False, True])
def test_a_fused_layer_equals_the_merged_weights(bias, bits, dora):
    linear, x = linear_for(bias, bits), inputs()
    update = update_for(linear, dora)
    got = apply(linear, FusedWeight.of(linear, update), x)
    assert np.abs(wide(got) - in_float64(linear, update, x)).max() < 1e-5


@pytest.mark.parametrize("bias", [False, True])
def test_an_update_that_changes_nothing_is_the_layer_bit_for_bit(bias):
    linear, x = linear_for(bias), inputs()
    update = update_for(linear, dora=False)
    idle = type(update)(update.a, mx.zeros_like(update.b), update.scale)
    assert same(apply(linear, FusedWeight.of(linear, idle), x), linear(x))


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("fuse_to", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_the_output_has_the_input_s_type(dtype, fuse_to, bits):
    linear = linear_for(bits=bits)
    linear.set_dtype(dtype)
    update, x = update_for(linear), inputs().astype(dtype)
    got = apply(linear, FusedWeight.of(linear, update, fuse_to), x)
    assert got.dtype == apply(linear, update, x).dtype == dtype
    expected = in_float64(linear, update, x)
    assert np.abs(wide(got) - expected).max() < 3e-2 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_fusing_computes_in_float32_and_rounds_once(dtype):
    linear = linear_for()
    linear.set_dtype(dtype)
    update = update_for(linear)
    weight = FusedWeight.of(linear, update).weight
    assert weight.dtype == dtype
    exact = FusedWeight.of(linear, update, mx.float32).weight
    assert same(weight.astype(mx.float32), exact.astype(dtype).astype(mx.float32))
