"""The layer itself: LoRA, DoRA and dropout against plain computations in float64."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from dualtune_mlx.adapters import LoRALinear, LoRAUpdate
from dualtune_mlx.adapters.lora import row_norms
from tests.adapters.adapters import same

INPUTS, OUTPUTS, RANK = 64, 48, 4
BASES = pytest.mark.parametrize(
    ("bias", "bits"), [(False, 0), (True, 0), (False, 4), (True, 4), (True, 3), (True, 8)], ids=str
)


def linear_for(bias: bool = True, bits: int = 0) -> nn.Linear | nn.QuantizedLinear:
    mx.random.seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS, bias=bias)
    return nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits) if bits else linear


def update_for(linear: nn.Module, dora: bool = True, **changes) -> LoRAUpdate:
    """An update of a scale, a B and an m that all matter."""
    keys = mx.random.split(mx.random.key(1), 3)
    a = mx.random.normal((INPUTS, RANK), key=keys[0]) * 0.2
    b = mx.random.normal((RANK, OUTPUTS), key=keys[1]) * 0.2
    m = row_norms(linear) * mx.random.uniform(0.5, 1.5, (OUTPUTS,), key=keys[2]) if dora else None
    return LoRAUpdate(a, b, 1.5, m, **changes)


def inputs(rows: int = 7) -> mx.array:
    return mx.random.normal((2, rows, INPUTS), key=mx.random.key(2))


def apply(linear: nn.Module, update: LoRAUpdate | None, x: mx.array) -> mx.array:
    layer = LoRALinear(linear)
    layer.active_update = update
    return layer(x)


def plain(linear: nn.Module, update: LoRAUpdate, x: mx.array, kept: mx.array | None = None) -> np.ndarray:
    """W x + b + (W' - W) x̃ in float64: W' is m (W + s (A B)ᵀ) / ‖W + s (A B)ᵀ‖ row by row, x̃ what dropout left."""
    weight, bias = wide(weight_of(linear)), wide(linear.bias) if "bias" in linear else 0.0
    merged = weight + update.scale * (wide(update.a) @ wide(update.b)).T
    if update.magnitude is not None:
        merged *= (wide(update.magnitude) / np.sqrt((merged**2).sum(axis=1)))[:, None]
    x, kept = wide(x), wide(x if kept is None else kept)
    return x @ weight.T + bias + kept @ (merged - weight).T


def weight_of(linear: nn.Module) -> mx.array:
    if isinstance(linear, nn.Linear):
        return linear.weight
    return mx.dequantize(linear.weight, linear.scales, linear.biases, group_size=32, bits=linear.bits)


def wide(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def kept_of(x: mx.array, dropout: float, key: mx.array) -> mx.array:
    """What dropout leaves of x: a layer without weights whose A and B are the identity shows it."""
    silent = nn.Linear(INPUTS, INPUTS, bias=False)
    silent.weight = mx.zeros((INPUTS, INPUTS))
    return apply(silent, LoRAUpdate(mx.eye(INPUTS), mx.eye(INPUTS), 1.0, dropout=dropout, key=key), x)


@BASES
@pytest.mark.parametrize("dora", [False, True])
def test_an_update_equals_the_merged_weights(bias, bits, dora):
    linear, x = linear_for(bias, bits), inputs()
    update = update_for(linear, dora)
    expected = plain(linear, update, x)
    assert np.abs(wide(apply(linear, update, x)) - expected).max() < 1e-5
    assert np.abs(wide(linear(x)) - expected).max() > 0.1


@BASES
@pytest.mark.parametrize("dora", [False, True])
def test_with_dropout_the_change_alone_sees_fewer_inputs(bias, bits, dora):
    linear, x, key = linear_for(bias, bits), inputs(), mx.random.key(5)
    update = update_for(linear, dora, dropout=0.4, key=key)
    expected = plain(linear, update, x, kept_of(x, 0.4, key))
    assert np.abs(wide(apply(linear, update, x)) - expected).max() < 1e-5
    assert np.abs(plain(linear, update, x) - expected).max() > 0.1


def test_without_a_bias_the_layer_s_own_is_not_looked_for():
    linear = linear_for(bias=False)
    assert "bias" not in linear
    assert apply(linear, update_for(linear), inputs()).shape == (2, 7, OUTPUTS)


@BASES
def test_a_fresh_dora_is_the_base_bit_for_bit(bias, bits):
    linear, x = linear_for(bias, bits), inputs()
    fresh = LoRAUpdate(update_for(linear).a, mx.zeros((RANK, OUTPUTS)), 1.5, row_norms(linear))
    assert mx.array_equal(apply(linear, fresh, x), linear(x)).item()
    assert not mx.array_equal(apply(linear, replace(fresh, magnitude=2 * fresh.magnitude), x), linear(x)).item()


@BASES
def test_the_norms_are_those_of_the_updated_rows(bias, bits):
    linear = linear_for(bias, bits)
    update = update_for(linear)
    weight = wide(weight_of(linear))
    merged = weight + 1.5 * (wide(update.a) @ wide(update.b)).T
    assert np.abs(wide(row_norms(linear)) - np.linalg.norm(weight, axis=1)).max() < 1e-5
    assert np.abs(wide(row_norms(linear, update)) - np.linalg.norm(merged, axis=1)).max() < 1e-5
    assert np.abs(wide(row_norms(linear, update)) - wide(row_norms(linear))).max() > 0.1


def test_a_known_norm_is_used_instead_of_computing_it():
    linear, x = linear_for(), inputs()
    update = update_for(linear)
    norm = row_norms(linear, update)
    assert same(apply(linear, replace(update, norm=norm), x), apply(linear, update, x))
    doubled = replace(update, norm=norm * 2, magnitude=update.magnitude * 2)
    assert mx.allclose(apply(linear, doubled, x), apply(linear, update, x), atol=1e-5).item()


def test_a_row_of_zeros_stays_zero():
    linear, x = linear_for(bias=False), inputs()
    linear.weight = mx.where(mx.arange(OUTPUTS)[:, None] == 3, 0, linear.weight)
    fresh = LoRAUpdate(update_for(linear).a, mx.zeros((RANK, OUTPUTS)), 1.5, row_norms(linear))
    y = apply(linear, fresh, x)
    assert mx.isfinite(y).all().item()
    assert not y[..., 3].any().item()


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_output_keeps_its_type_and_the_norm_its_precision(dtype, dropout):
    linear = linear_for()
    linear.set_dtype(dtype)
    update = update_for(linear, dropout=dropout, key=mx.random.key(1))
    assert row_norms(linear).dtype == row_norms(linear, update).dtype == mx.float32
    assert np.abs(wide(row_norms(linear)) - np.linalg.norm(wide(linear.weight), axis=1)).max() < 1e-5
    assert apply(linear, update, inputs().astype(dtype)).dtype == dtype


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_gradients_take_the_norm_for_a_constant(dropout):
    linear, x, key = linear_for(), inputs(), mx.random.key(3)
    kept = kept_of(x, dropout, key) if dropout else x
    update = update_for(linear)

    def ours(parts):
        return (apply(linear, LoRAUpdate.of(parts, 1.5, dropout, key), x) ** 2).sum()

    def compute_in_full(parts, constant):
        merged = linear.weight + 1.5 * (parts["a"] @ parts["b"]).T
        norm = mx.sqrt((merged * merged).sum(axis=1))
        ratio = parts["m"] / (mx.stop_gradient(norm) if constant else norm)
        change = (ratio[:, None] * merged - linear.weight).T
        return ((x @ linear.weight.T + linear.bias + kept @ change) ** 2).sum()

    got = mx.grad(ours)(update.parts)
    expected = mx.grad(compute_in_full)(update.parts, True)
    wrong = mx.grad(compute_in_full)(update.parts, False)
    assert got.keys() == {"a", "b", "m"}
    for part, gradient in expected.items():
        size = mx.abs(gradient).max().item()
        assert mx.abs(got[part] - gradient).max().item() < 1e-4 * size, part
    for part in ("a", "b"):
        assert mx.abs(got[part] - wrong[part]).max().item() > 1e-2 * mx.abs(wrong[part]).max().item(), part


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_keeps_the_expectation(dropout):
    x = mx.full((4000, INPUTS), 2.0)
    kept = np.array(kept_of(x, dropout, mx.random.key(0)))
    assert np.unique(kept) == pytest.approx([0, 2 / (1 - dropout)])
    assert (kept == 0).mean() == pytest.approx(dropout, abs=0.01)
    assert kept.mean() == pytest.approx(2, abs=0.02)
    assert kept.mean(axis=0) == pytest.approx(2, abs=0.2)


def test_dropout_is_drawn_from_its_key_and_nothing_else():
    linear, x = linear_for(), inputs()
    update = update_for(linear, dropout=0.5, key=mx.random.key(7))
    mx.random.seed(1)
    first, state = apply(linear, update, x), mx.array(mx.random.state[0])
    mx.random.seed(2)
    assert same(apply(linear, update, x), first)
    mx.random.seed(1)
    assert mx.array_equal(mx.random.state[0], state).item()
    assert not same(apply(linear, replace(update, key=mx.random.key(8)), x), first)


def test_a_checkpointed_pass_draws_the_same_mask_again():
    linear, x, key = linear_for(), inputs(), mx.random.key(7)
    parts = update_for(linear).parts

    def loss(parts):
        return (apply(linear, LoRAUpdate.of(parts, 1.5, 0.5, key), x) ** 2).sum()

    for part, gradient in mx.grad(mx.checkpoint(loss))(parts).items():
        assert mx.allclose(gradient, mx.grad(loss)(parts)[part], rtol=1e-5, atol=1e-5).item()


@pytest.mark.parametrize(("dropout", "key"), [(0.5, None), (0.0, 7)])
@pytest.mark.parametrize("dora", [False, True])
def test_without_a_key_or_a_share_nothing_is_dropped(dora, dropout, key):
    linear, x = linear_for(), inputs()
    update = update_for(linear, dora)
    idle = replace(update, dropout=dropout, key=None if key is None else mx.random.key(key))
    assert same(apply(linear, idle, x), apply(linear, update, x))


@pytest.mark.parametrize("dora", [False, True])
def test_the_parts_make_the_update_again(dora):
    update = update_for(linear_for(), dora)
    assert list(update.parts) == (["a", "b", "m"] if dora else ["a", "b"])
    key = mx.random.key(1)
    again = LoRAUpdate.of(update.parts, 1.5, 0.2, key)
    assert (again.a, again.b, again.magnitude) == (update.a, update.b, update.magnitude)
    assert (again.scale, again.norm, again.dropout, again.key) == (1.5, None, 0.2, key)
