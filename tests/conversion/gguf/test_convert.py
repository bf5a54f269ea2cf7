"""GGUF to MLX: exactly the same model, or a refusal by name with nothing left behind."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import tempfile
from errno import ENOSPC
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from dualtune_mlx.conversion.gguf import from_gguf, plan_conversion
from dualtune_mlx.errors import ConversionError, UsageError
from tests.conversion.gguf import writer as gguf

TOKENS = mx.array([[(7 * i * i + 3) % 250 for i in range(40)]])
"""Longer than the tiny models' sliding windows."""


@pytest.mark.parametrize("kind", gguf.KINDS)
def test_a_converted_model_is_the_original_one(tmp_path, kind):
    folder = from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf", kind), tmp_path / "out")
    model, tokenizer = mlx_lm.load(str(folder))
    assert mx.array_equal(model(TOKENS), gguf.network(kind)(TOKENS)).item()
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("kind", gguf.KINDS)
def test_what_llama_cpp_s_own_package_writes_is_read_as_the_same(tmp_path, kind):
    pytest.importorskip("gguf", reason="needs the extra gguf")
    ours = from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf", kind), tmp_path / "ours")
    path = gguf.write_officially(tmp_path / "official.gguf", gguf.fields(kind), gguf.tensors(kind))
    theirs = from_gguf(path, tmp_path / "theirs")
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()
    assert weights_of(ours) == weights_of(theirs)


@pytest.mark.parametrize("kind", gguf.KINDS)
def test_an_output_layer_of_its_own_is_not_tied(tmp_path, kind):
    output = np.random.default_rng(0).normal(size=(272, 32)).astype(np.float32)
    tensors = {**gguf.tensors(kind), "output.weight": gguf.tensor(output)}
    path = gguf.write(tmp_path / "m.gguf", gguf.fields(kind), tensors)
    model, _ = mlx_lm.load(str(from_gguf(path, tmp_path / "out")))
    np.testing.assert_array_equal(np.array(model.lm_head.weight), output)


def test_without_undoing_the_order_of_q_and_k_it_would_be_another_model(tmp_path):
    folder = from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf"), tmp_path / "out")
    converted = mx.load(str(folder / "model.safetensors"))["model.layers.0.self_attn.q_proj.weight"]
    raw = gguf.weights("llama")["blk.0.attn_q.weight"]
    assert not np.array_equal(np.array(converted), raw)
    np.testing.assert_array_equal(gguf.permuted(np.array(converted), 4), raw)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_type_of_the_weights_can_be_chosen(tmp_path, dtype):
    from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf"), tmp_path / "out", dtype)
    weights = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert {array.dtype for array in weights.values()} == {getattr(mx, dtype)}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == dtype


def test_all_tokens_that_end_an_answer_are_carried_over(tmp_path):
    ends = {"tokenizer.ggml.eot_token_id": 260, "tokenizer.ggml.eom_token_id": 258}
    folder = from_gguf(gguf.tiny_gguf(tmp_path / "m.gguf", **ends), tmp_path / "out")
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == [258, 260]
    assert mlx_lm.load(str(folder))[1].eos_token_ids == {258, 260}


def test_a_plan_says_what_becomes_of_each_tensor_and_writes_nothing(tmp_path):
    plan = plan_conversion(gguf.tiny_gguf(tmp_path / "m.gguf"))
    assert [weight.source for weight in plan.weights] == list(gguf.weights())
    first = plan.weights[0]
    assert (first.source, first.target) == ("token_embd.weight", "model.embed_tokens.weight")
    assert (first.shape, first.stored, first.nbytes) == ((272, 32), "F32", 272 * 32 * 4)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_progress_is_told_of_each_tensor(tmp_path):
    told: list[tuple[int, int, str]] = []
    plan = plan_conversion(gguf.tiny_gguf(tmp_path / "m.gguf"))
    plan.write(tmp_path / "out", lambda *arguments: told.append(arguments))
    names = [weight.source for weight in plan.weights]
    assert told == [(number, len(names), name) for number, name in enumerate(names, 1)]


def weights_of(folder: Path) -> str:
    """A digest of all weights: names, shapes, types and every byte."""
    digest = hashlib.sha256()
    for name, array in sorted(mx.load(str(folder / "model.safetensors")).items()):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.array(array).tobytes())
    return digest.hexdigest()


def check_refused(path: Path, words: list[str]) -> None:
    with pytest.raises(ConversionError) as caught:
        from_gguf(path, path.parent / "out")
    for word in [*words, path.name]:
        assert word in str(caught.value)
    assert [left.name for left in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general.architecture": "gemma2"}, ["architecture", "gemma2", "llama, qwen2, qwen3, gemma3"]),
        ({"general.architecture": None}, ["architecture", "llama, qwen2"]),
        ({"general.architecture": 7}, ["architecture", "7"]),
        ({"general.type": "adapter"}, ["not a model", "adapter"]),
        ({"split.count": 3}, ["a part of a model", "split.count = 3", "llama-gguf-split"]),
    ],
)
def test_what_is_not_a_model_of_these_is_refused(tmp_path, changes, words):
    check_refused(gguf.tiny_gguf(tmp_path / "m.gguf", **changes), words)


def test_a_file_that_ends_early_is_refused_wherever_it_ends(tmp_path):
    content = gguf.tiny_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "whole.gguf").unlink()
    path = tmp_path / "m.gguf"
    for end in [*range(1, 120, 7), 1000, 5000, len(content) // 2, len(content) - 200]:
        path.write_bytes(content[:end])
        check_refused(path, [])


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_damaged_header_never_ends_in_anything_but_a_refusal(tmp_path, kind):
    content = gguf.tiny_gguf(tmp_path / "m.gguf", kind).read_bytes()
    generator = random.Random(0)
    outcomes = []
    for number in range(150):
        broken = bytearray(content)
        for _ in range(2):
            broken[generator.randrange(900)] = generator.choice([0, 1, 8, 9, 127, 255])
        (tmp_path / "m.gguf").write_bytes(bytes(broken))
        try:
            from_gguf(tmp_path / "m.gguf", tmp_path / f"out{number}")
            outcomes.append(True)
        except ConversionError:
            outcomes.append(False)
            assert not (tmp_path / f"out{number}").exists()
    assert outcomes.count(False) > 50


def test_what_fails_while_writing_leaves_nothing_behind(tmp_path):
    tensors = gguf.tensors()
    shape, kind, raw = tensors["blk.1.ffn_down.weight"]
    tensors["blk.1.ffn_down.weight"] = (shape, kind, raw[:-4] + struct.pack("<f", float("nan")))
    path = gguf.write(tmp_path / "m.gguf", gguf.fields(), tensors)
    plan_conversion(path)  # the values are not looked at before they are converted
    check_refused(path, ["not finite numbers", "blk.1.ffn_down.weight", "F32"])


def test_an_existing_destination_is_left_as_it_is(tmp_path):
    source = gguf.tiny_gguf(tmp_path / "m.gguf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="exists already(?s:.*)out"):
        from_gguf(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_full_disk_is_told_in_words_and_leaves_nothing(tmp_path, monkeypatch, file):
    source, opened = gguf.tiny_gguf(tmp_path / "m.gguf"), Path.open

    def open_or_fill(path, mode="r", *more, **options):
        if path.name == file and "w" in mode:
            raise OSError(ENOSPC, "No space left on device")
        return opened(path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", open_or_fill)
    with pytest.raises(UsageError, match="No space left(?s:.*)make room"):
        from_gguf(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.model
def test_the_embedded_model_is_converted_as_ever():
    """The files that every earlier version of this package made of it."""
    from dualtune_mlx.models import embedded_file

    with tempfile.TemporaryDirectory() as scratch:
        folder = from_gguf(embedded_file(), Path(scratch) / "out")
        assert weights_of(folder) == "9475f8be70cfd5b7ddfcfda58d974efff6ea27c49414781446d92a56a132ce4e"
        written = {path.name: path.read_text() for path in folder.glob("*.json")}
    tokenizer = json.loads(written["tokenizer.json"])
    added = [token["content"] for token in tokenizer["added_tokens"]]
    text = json.dumps([tokenizer["model"]["vocab"], tokenizer["model"]["merges"], added])
    assert digest(text) == "33b067d365c7076f40ce2d40806efc2045dc8eec4e5fdb7397c1e8fa631b656f"
    assert digest(written["config.json"]) == "7298468a66ee8410630ab59698fe0cef2ee9fbcfb0e9e6b96bd27596a5fe6c33"
    expected = "89aa1e9cfa644f2cca9daa4b7b22460a941b6f9331f95c17e98433ae179d44c3"
    assert digest(written["tokenizer_config.json"]) == expected


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.model
def test_the_embedded_model_answers():
    from dualtune_mlx.models import load_model

    base = load_model("smollm2-135m")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = base.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert "Paris" in mlx_lm.generate(base.model, base.tokenizer, prompt, max_tokens=12)
