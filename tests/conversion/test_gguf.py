"""GGUF to MLX: exactly the same model, or a refusal by name with nothing left behind."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from dualtune_mlx.conversion.gguf import from_gguf
from dualtune_mlx.conversion.gguf_file import GGUFFile
from dualtune_mlx.errors import ConversionError, UsageError
from tests import tiny
from tests.conversion import gguf_writer as gguf

TOKENS = mx.array([[7, 30, 12, 99, 4, 51]])


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


def random_blocks(kind: int, count: int, seed: int = 0) -> bytes:
    generator = random.Random(seed)
    scales, values = {gguf.Q8_0: (1, 32), gguf.Q4_0: (1, 16), gguf.Q4_1: (2, 16)}[kind]
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


@pytest.mark.parametrize("kind", [gguf.F32, gguf.F16])
def test_plain_types_are_read_exactly_and_in_the_right_shape(tmp_path, kind):
    value = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    path = gguf.write(tmp_path / "m.gguf", {}, {"first": gguf.tensor(np.ones(5), kind), "t": gguf.tensor(value, kind)})
    np.testing.assert_array_equal(GGUFFile(path).tensor("t"), value)


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_of_every_kind_is_read(tmp_path, version):
    values = {"i": 7, "f": 0.5, "b": True, "s": "Ä", "ints": [1, 2], "texts": ["a", ""], "flags": [True, False]}
    assert GGUFFile(gguf.write(tmp_path / "m.gguf", values, {}, version)).metadata == values


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_converted_model_is_the_original_one(tmp_path, kind):
    folder = from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf", kind), tmp_path / "out")
    model, tokenizer = mlx_lm.load(str(folder))
    assert mx.array_equal(model(TOKENS), tiny.unwrapped(kind=kind)(TOKENS)).item()
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_head_width_that_goes_without_saying_may_be_said(tmp_path):
    widths = {"arch_attention.key_length": 8, "arch_attention.value_length": 8, "arch_rope.dimension_count": 8}
    folder = from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf", **widths), tmp_path / "out")
    assert mx.array_equal(mlx_lm.load(str(folder))[0](TOKENS), tiny.unwrapped()(TOKENS)).item()


def test_without_undoing_the_order_of_q_and_k_it_would_be_another_model(tmp_path):
    tensors = {name: gguf.tensor(value) for name, value in gguf.weights("llama").items()}
    original = gguf.weights("qwen2")["blk.0.attn_q.weight"]
    assert not np.array_equal(gguf.permuted(original, 4), original)
    metadata = gguf.metadata("llama")
    folder = from_gguf(gguf.write(tmp_path / "m.gguf", metadata, tensors), tmp_path / "out")
    converted = mx.load(str(folder / "model.safetensors"))["model.layers.0.self_attn.q_proj.weight"]
    raw = gguf.weights("llama")["blk.0.attn_q.weight"]
    assert not np.array_equal(np.array(converted), raw)
    np.testing.assert_array_equal(gguf.permuted(np.array(converted), 4), raw)


def test_an_output_layer_of_its_own_is_not_tied(tmp_path):
    named = {name: gguf.tensor(value) for name, value in gguf.weights().items()}
    output = np.random.default_rng(0).normal(size=(272, 32)).astype(np.float32)
    path = gguf.write(tmp_path / "m.gguf", gguf.metadata(), {**named, "output.weight": gguf.tensor(output)})
    model, _ = mlx_lm.load(str(from_gguf(path, tmp_path / "out")))
    np.testing.assert_array_equal(np.array(model.lm_head.weight), output)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_type_of_the_weights_can_be_chosen(tmp_path, dtype):
    from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf"), tmp_path / "out", dtype)
    weights = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert {array.dtype for array in weights.values()} == {getattr(mx, dtype)}


def test_a_quantised_file_becomes_the_values_it_stands_for(tmp_path):
    tensors = {name: gguf.tensor(value) for name, value in gguf.weights().items()}
    raw = random_blocks(gguf.Q4_1, 64 * 32 // 32)
    tensors["blk.0.ffn_up.weight"] = ((64, 32), gguf.Q4_1, raw)
    from_gguf(gguf.write(tmp_path / "m.gguf", gguf.metadata(), tensors), tmp_path / "out")
    converted = mx.load(str(tmp_path / "out" / "model.safetensors"))["model.layers.0.mlp.up_proj.weight"]
    expected = [value for i in range(64) for value in slowly(gguf.Q4_1, raw[20 * i : 20 * i + 20])]
    np.testing.assert_allclose(np.array(converted), np.array(expected, np.float32).reshape(64, 32), rtol=1e-6)


def test_the_tokenizer_is_the_file_s(tmp_path):
    _, tokenizer = mlx_lm.load(str(from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf"), tmp_path / "out")))
    ids = tokenizer.encode("in the<|im_end|><tool_call>", add_special_tokens=False)
    tokens = gguf.metadata()["tokenizer.ggml.tokens"]
    assert [tokens[i] for i in ids] == ["i", "n", "Ġt", "he", "<|im_end|>", "<tool_call>"]
    assert tokenizer.decode(ids) == "in the<|im_end|><tool_call>"
    added = tokenizer.added_tokens_decoder
    assert added[tokens.index("<|im_end|>")].special
    assert not added[tokens.index("<tool_call>")].special


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general.architecture": "gemma2"}, ["architecture", "gemma2", "llama, qwen2"]),
        ({"general.architecture": None}, ["architecture", "llama, qwen2"]),
        ({"arch_block_count": None}, ["lacks a field", "llama.block_count"]),
        ({"tokenizer.ggml.model": "llama"}, ["tokenizer", "'llama'", "gpt2"]),
        ({"tokenizer.ggml.pre": "deepseek-llm"}, ["tokenizer", "deepseek-llm", "qwen2"]),
        ({"arch_rope.scaling.type": "yarn"}, ["rotary", "llama.rope.scaling.type = yarn"]),
        ({"arch_attention.key_length": 16}, ["heads", "llama.attention.key_length = 16", "expected: 32 / 4"]),
        ({"arch_attention.value_length": 4}, ["heads", "llama.attention.value_length = 4"]),
        ({"arch_rope.dimension_count": 4}, ["heads", "llama.rope.dimension_count = 4"]),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, changes, words):
    path = gguf.tiny_gguf(tmp_path / "m.gguf", **changes)
    refused(path, words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("blk.0.ffn_up.weight", ((64, 256), gguf.Q4_K, bytes(144 * 64)), ["Q4_K", "F32, F16, Q4_0, Q4_1, Q8_0"]),
        ("blk.0.ffn_up.weight", ((64, 32), 77, bytes(64)), ["type 77"]),
        ("blk.0.ffn_gate_inp.weight", gguf.tensor(np.ones(4)), ["no place in the model", "blk.0.ffn_gate_inp.weight"]),
        ("mystery.weight", gguf.tensor(np.ones(4)), ["no place in the model", "mystery.weight"]),
        ("rope_freqs.weight", gguf.tensor(np.ones(4)), ["rotary", "rope_freqs.weight"]),
        ("blk.0.ffn_up.weight", ((64, 32000), gguf.F32, bytes(64)), ["outside the file", "blk.0.ffn_up.weight"]),
        ("blk.0.ffn_up.weight", ((63, 33), gguf.Q8_0, bytes(64)), ["outside the file", "blk.0.ffn_up.weight"]),
    ],
)
def test_a_tensor_that_cannot_be_read_is_refused_by_name(tmp_path, name, value, words):
    tensors = {key: gguf.tensor(array) for key, array in gguf.weights().items()}
    refused(gguf.write(tmp_path / "m.gguf", gguf.metadata(), {**tensors, name: value}), words)


def refused(path: Path, words: list[str]) -> None:
    with pytest.raises(ConversionError) as caught:
        from_gguf(path, path.parent / "out")
    for word in [*words, path.name]:
        assert word in str(caught.value)
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "cannot be opened"),
        (b"GG", "damaged"),
        (b"PK\x03\x04 a zip archive of a model", "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "damaged"),
    ],
)
def test_what_is_no_gguf_file_is_refused(tmp_path, content, what):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    refused(path, [what])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConversionError, match="cannot be opened(?s:.*)nowhere.gguf"):
        from_gguf(tmp_path / "nowhere.gguf", tmp_path / "out")


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    content = gguf.tiny_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "whole.gguf").unlink()
    path = tmp_path / "m.gguf"
    for end in [*range(1, 120, 7), 1000, 5000, len(content) // 2, len(content) - 200]:
        path.write_bytes(content[:end])
        refused(path, [])


def test_a_damaged_header_never_ends_in_anything_but_a_refusal(tmp_path):
    content = gguf.tiny_gguf(tmp_path / "m.gguf").read_bytes()
    generator = random.Random(0)
    outcomes = []
    for number in range(120):
        broken = bytearray(content)
        for _ in range(2):
            broken[generator.randrange(700)] = generator.choice([0, 1, 8, 9, 127, 255])
        (tmp_path / "m.gguf").write_bytes(bytes(broken))
        try:
            from_gguf(tmp_path / "m.gguf", tmp_path / f"out{number}")
            outcomes.append(True)
        except ConversionError:
            outcomes.append(False)
            assert not (tmp_path / f"out{number}").exists()
    assert outcomes.count(False) > 20


@pytest.mark.parametrize("alignment", [0, 7, "thirty-two"])
def test_an_odd_alignment_is_refused(tmp_path, alignment):
    refused(gguf.tiny_gguf(tmp_path / "m.gguf", **{"general.alignment": alignment}), [])


def test_a_special_token_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConversionError, match="lacks a token(?s:.*)eos_token_id(?s:.*)9999"):
        from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf", **{"tokenizer.ggml.eos_token_id": 9999}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_merges_of_tokens_that_are_not_there_are_refused(tmp_path):
    refused(gguf.tiny_gguf(tmp_path / "m.gguf", **{"tokenizer.ggml.merges": ["h e", "x yy"]}), ["x yy"])


def test_heads_that_do_not_divide_the_rows_are_refused(tmp_path):
    refused(gguf.tiny_gguf(tmp_path / "m.gguf", **{"arch_attention.head_count": 5}), ["32 rows, 5 heads"])


def test_a_missing_tensor_is_named(tmp_path):
    tensors = {name: gguf.tensor(value) for name, value in gguf.weights().items()}
    del tensors["blk.1.attn_q.weight"]
    refused(gguf.write(tmp_path / "m.gguf", gguf.metadata(), tensors), ["blk.1.attn_q.weight"])


def test_an_existing_destination_is_left_as_it_is(tmp_path):
    source = gguf.tiny_gguf(tmp_path / "m.gguf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="exists already(?s:.*)out"):
        from_gguf(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.model
def test_the_embedded_model_answers():
    from dualtune_mlx.models import load_model

    base = load_model("smollm2-135m")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = base.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert "Paris" in mlx_lm.generate(base.model, base.tokenizer, prompt, max_tokens=12)
