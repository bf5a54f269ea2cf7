"""Tensor types: the values of made-up blocks, by a plain loop, by llama.cpp's package and by MLX's own reader."""

from __future__ import annotations

import random
import struct

import mlx.core as mx
import numpy as np
import pytest

from dualtune_mlx.conversion.gguf import from_gguf, types
from dualtune_mlx.conversion.gguf.file import GGUFFile
from tests.conversion.gguf import writer as gguf
from tests.conversion.gguf.test_convert import check_refused

ROWS, WIDTH = 3, 512
OF_THE_PACKAGE = (
    "Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ1_S IQ1_M IQ4_NL IQ4_XS".split()  # noqa: SIM905
)
ALL = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", *OF_THE_PACKAGE]


def half(raw: bytes) -> float:
    return struct.unpack("<e", raw)[0]


def slowly(kind: int, raw: bytes) -> list[float]:
    """One block of 32 values, decoded as ggml-quants.c does, value by value."""
    if kind == gguf.Q8_0:
        return [half(raw[:2]) * struct.unpack("b", raw[2 + i : 3 + i])[0] for i in range(32)]
    packed = raw[2:] if kind == gguf.Q4_0 else raw[4:]
    nibbles = [packed[i] & 15 if i < 16 else packed[i - 16] >> 4 for i in range(32)]
    if kind == gguf.Q4_0:
        return [half(raw[:2]) * (nibble - 8) for nibble in nibbles]
    return [half(raw[:2]) * nibble + half(raw[2:4]) for nibble in nibbles]


def slowly_k(raw: bytes) -> list[float]:
    """One block of 256 values in Q4_K: eight groups, whose scales and minima take six bits each."""
    scale, minimum, packed, nibbles = half(raw[:2]), half(raw[2:4]), raw[4:16], raw[16:]
    values = []
    for group in range(8):
        if group < 4:
            factor, offset = packed[group] & 63, packed[group + 4] & 63
        else:
            factor = packed[group + 4] & 15 | packed[group - 4] >> 6 << 4
            offset = packed[group + 4] >> 4 | packed[group] >> 6 << 4
        part = nibbles[32 * (group // 2) : 32 * (group // 2) + 32]
        values += [scale * factor * (b >> 4 if group % 2 else b & 15) - minimum * offset for b in part]
    return values


def random_blocks(kind: int, count: int, seed: int = 0) -> bytes:
    generator = random.Random(seed)
    scales, values = {gguf.Q8_0: (1, 32), gguf.Q4_0: (1, 16), gguf.Q4_1: (2, 16), gguf.Q4_K: (2, 140)}[kind]
    return b"".join(
        b"".join(struct.pack("<e", generator.uniform(-0.1, 0.1)) for _ in range(scales)) + generator.randbytes(values)
        for _ in range(count)
    )


@pytest.mark.parametrize("kind", [gguf.Q8_0, gguf.Q4_0, gguf.Q4_1])
def test_blocks_are_decoded_like_a_plain_loop(tmp_path, kind):
    raw = random_blocks(kind, 3 * 4)
    path = gguf.write(tmp_path / "m.gguf", {}, {"t": ((3, 128), kind, raw)})
    size = len(raw) // 12
    expected = [value for i in range(12) for value in slowly(kind, raw[i * size : (i + 1) * size])]
    decoded = GGUFFile(path).tensor("t")
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, np.array(expected, np.float32).reshape(3, 128), rtol=1e-6)


def test_k_quants_are_decoded_like_a_plain_loop(tmp_path):
    pytest.importorskip("gguf", reason="needs the extra gguf")
    raw = random_blocks(gguf.Q4_K, 4)
    path = gguf.write(tmp_path / "m.gguf", {}, {"t": ((2, 512), gguf.Q4_K, raw)})
    expected = [value for i in range(4) for value in slowly_k(raw[144 * i : 144 * i + 144])]
    # Near zero a scale times a value and a minimum cancel out.
    np.testing.assert_allclose(GGUFFile(path).tensor("t"), np.array(expected).reshape(2, 512), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_made_up_blocks_have_the_values_that_llama_cpp_s_package_gives_them(tmp_path, name):
    package = pytest.importorskip("gguf", reason="needs the extra gguf")
    kind = package.GGMLQuantizationType[name]
    values, size = package.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 256, (ROWS, WIDTH // values * size), dtype=np.uint8)
    path = gguf.write(tmp_path / "m.gguf", {}, {"t": ((ROWS, WIDTH), int(kind), raw.tobytes())})
    with np.errstate(all="ignore"):
        expected = package.quants.dequantize(raw, kind)
    decoded = GGUFFile(path).tensor("t")
    assert (decoded.dtype, decoded.shape) == (np.float32, (ROWS, WIDTH))
    np.testing.assert_array_equal(decoded, expected)


# Not Q4_K: MLX 0.32.4 gives other values than llama.cpp (and the loop above) from a block's second group on.
@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q6_K"])
def test_mlx_s_own_reader_gives_the_same_within_its_half_precision(tmp_path, name):
    package = pytest.importorskip("gguf", reason="needs the extra gguf")
    kind = package.GGMLQuantizationType[name]
    raw = np.random.default_rng(0).normal(0, 0.02, (64, 256)).astype(np.float32)
    tensor = quantize_values(kind, raw)
    path = gguf.write_officially(tmp_path / "m.gguf", {"general.architecture": "llama"}, {"t.weight": tensor})
    theirs = mx.load(str(path))
    if "t.scales" in theirs:
        parts = [theirs[f"t.{part}"] for part in ("weight", "scales", "biases")]
        value = mx.dequantize(*parts, group_size=32, bits=8 if name == "Q8_0" else 4)
    else:
        value = theirs["t.weight"]
    np.testing.assert_allclose(GGUFFile(path).tensor("t.weight"), np.array(value.astype(mx.float32)), atol=2e-3)


def quantize_values(kind: int, values: np.ndarray) -> tuple[tuple[int, ...], int, bytes]:
    """Values in a type; the package cannot quantise to K-quants, so theirs are made up."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    try:
        return values.shape, int(kind), quantize(values, GGMLQuantizationType(kind)).tobytes()
    except NotImplementedError:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        blocks = np.random.default_rng(1).integers(0, 256, (values.size // block, size), dtype=np.uint8)
        scales = {10: slice(80, 84), 14: slice(208, 210)}[int(kind)]  # Q2_K, Q6_K
        width = scales.stop - scales.start
        halves = np.random.default_rng(2).uniform(1e-4, 1e-3, (len(blocks), width // 2)).astype(np.float16)
        blocks[:, scales] = halves.view(np.uint8)
        return values.shape, int(kind), blocks.tobytes()


def test_a_quantised_file_becomes_the_values_it_stands_for(tmp_path):
    raw = random_blocks(gguf.Q4_1, 64)
    tensors = {**gguf.tensors(), "blk.0.ffn_up.weight": ((64, 32), gguf.Q4_1, raw)}
    from_gguf(gguf.write(tmp_path / "m.gguf", gguf.fields(), tensors), tmp_path / "out")
    converted = mx.load(str(tmp_path / "out" / "model.safetensors"))["model.layers.0.mlp.up_proj.weight"]
    expected = [value for i in range(64) for value in slowly(gguf.Q4_1, raw[20 * i : 20 * i + 20])]
    np.testing.assert_allclose(np.array(converted), np.array(expected, np.float32).reshape(64, 32), rtol=1e-6)


def test_without_the_package_its_types_are_refused_and_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(types, "find_spec", lambda name: None)
    types.tensor_type.cache_clear()
    try:
        tensors = {**gguf.tensors(), "blk.0.ffn_up.weight": ((64, 256), gguf.Q4_K, bytes(144 * 64))}
        path = gguf.write(tmp_path / "m.gguf", gguf.fields(), tensors)
        check_refused(path, ["without the package gguf", "Q4_K", "F32, F16, Q4_0", "pip install 'dualtune-mlx[gguf]'"])
    finally:
        types.tensor_type.cache_clear()
