"""SentencePiece tokenizers: the ids of the ``sentencepiece`` library, on a model trained here."""

from __future__ import annotations

import inspect
import io
import random
from typing import Any

import mlx_lm
import numpy as np
import pytest

from dualtune_mlx.conversion.gguf import from_gguf
from tests.conversion.gguf import writer as gguf
from tests.conversion.gguf.test_convert import check_refused
from tests.conversion.gguf.test_tokenizer import TEXTS

sentencepiece = pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")

CONTROL = ["<|im_start|>", "<|im_end|>"]
RUNS = ["▁" * n for n in range(2, 8)] + ["\n" * n for n in range(1, 4)]
"""Gemma's user-defined pieces: runs of spaces and of line breaks."""
SIZE = 600


def corpus() -> list[str]:
    """Prose and code that is always there."""
    return [line.strip() for line in inspect.getsource(random).splitlines() if line.strip()]


@pytest.fixture(scope="module", params=["llama", "gemma"])
def trained(request) -> tuple[str, Any]:
    """A tiny model with Llama 2's settings, or with Gemma's: no space before a text, and runs as pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=SIZE,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=request.param == "llama",
        control_symbols=CONTROL,
        user_defined_symbols=["<tool_call>", *(RUNS if request.param == "gemma" else [])],
        minloglevel=2,
    )
    return request.param, sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def fields(style: str, model: Any) -> dict[str, Any]:
    """The fields that llama.cpp's converter writes for it."""
    ids = range(model.get_piece_size())
    pieces = [model.id_to_piece(i) for i in ids]
    defined = {"<tool_call>", *(RUNS if style == "gemma" else [])}

    def kind(i: int) -> int:
        known = {2: model.is_unknown(i), 3: model.is_control(i), 6: model.is_byte(i), 4: pieces[i] in defined}
        return next((number for number, is_one in known.items() if is_one), 1)

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [model.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [kind(i) for i in ids],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        **({"tokenizer.ggml.add_space_prefix": False} if style == "gemma" else {}),
    }


def write(path, kind: str, changes: dict[str, Any]):
    """The tiny network with a vocabulary of this tokenizer's size."""
    size = len(changes["tokenizer.ggml.tokens"])
    tensors = gguf.tensors(kind)
    tensors["token_embd.weight"] = gguf.tensor(np.random.default_rng(0).normal(size=(size, 32)).astype(np.float32))
    return gguf.write(path / "m.gguf", gguf.fields(kind, **changes), tensors)


@pytest.fixture
def converted(trained, tmp_path):
    style, model = trained
    folder = from_gguf(
        write(tmp_path, "gemma3" if style == "gemma" else "llama", fields(style, model)), tmp_path / "out"
    )
    return style, model, mlx_lm.load(str(folder))[1]


def texts() -> list[str]:
    generator = random.Random(1)
    made = []
    for line in corpus()[:200]:
        cut = generator.randrange(len(line))
        odd = generator.choice(["  ", "   ", " " * 12, "\n", "\n\n", "\t", "é", "日本", "👩‍👩‍👧", "\x00"])
        made.append(line[:cut] + odd + line[cut:])
    made += ["".join(generator.choices("the qk.", k=generator.randrange(40))) for _ in range(300)]
    made += ["".join(chr(generator.randrange(32, 0x3000)) for _ in range(12)) for _ in range(100)]
    return [*TEXTS, *made]


def test_texts_have_the_ids_that_sentencepiece_gives_them(converted):
    _, model, tokenizer = converted
    for text in texts():
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == model.encode(text), text
        assert tokenizer.decode(ids) == model.decode(ids)


def test_texts_begin_with_bos(converted):
    _, model, tokenizer = converted
    assert tokenizer.encode("the dog") == [model.bos_id(), *model.encode("the dog")]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")


def test_control_tokens_stand_for_themselves(converted):
    """As in llama.cpp: the text behind one begins anew, with a space where texts begin with one."""
    _, model, tokenizer = converted
    ids = tokenizer.encode("<|im_start|>the dog<|im_end|>the fox", add_special_tokens=False)
    start, end = (model.piece_to_id(token) for token in CONTROL)
    assert ids == [start, *model.encode("the dog"), end, *model.encode("the fox")]


def test_user_defined_tokens_are_found_in_the_text_and_are_not_special(converted):
    style, model, tokenizer = converted
    ids = tokenizer.encode("the<tool_call>fox", add_special_tokens=False)
    call = model.piece_to_id("<tool_call>")
    assert ids == [*model.encode("the"), call, *model.encode("fox")]
    assert not tokenizer.added_tokens_decoder[call].special
    assert style != "gemma" or ids == model.encode("the<tool_call>fox")


@pytest.mark.parametrize("trained", ["gemma"], indirect=True)
def test_user_defined_spaces_may_be_written_as_spaces(trained, tmp_path):
    """llama.cpp's converter writes either, depending on the files that it finds."""
    _, model = trained
    spaced = fields(*trained)
    spaced["tokenizer.ggml.tokens"] = [t.replace("▁", " ") if t in RUNS else t for t in spaced["tokenizer.ggml.tokens"]]
    tokenizer = mlx_lm.load(str(from_gguf(write(tmp_path, "gemma3", spaced), tmp_path / "out")))[1]
    for text in texts()[:100]:
        assert tokenizer.encode(text, add_special_tokens=False) == model.encode(text), text


@pytest.mark.parametrize("trained", ["llama"], indirect=True)
def test_the_sign_for_a_space_is_a_space_in_a_text_too(trained, tmp_path):
    _, model = trained
    tokenizer = mlx_lm.load(str(from_gguf(write(tmp_path, "llama", fields(*trained)), tmp_path / "out")))[1]
    for text in ("\u2581", "a\u2581 b", "\u2581the"):
        assert tokenizer.encode(text, add_special_tokens=False) == model.encode(text)


def test_what_is_streamed_is_what_is_decoded(converted):
    _, model, tokenizer = converted
    for text in ["the quick fox", " a  b", "日本 👩‍👩‍👧\n"]:
        detokenizer = tokenizer.detokenizer
        detokenizer.reset()
        for token in model.encode(text):
            detokenizer.add_token(token)
        detokenizer.finalize()
        assert detokenizer.text == model.decode(model.encode(text))


@pytest.mark.parametrize("trained", ["llama"], indirect=True)
@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("pre", lambda old: "llama-bpe", ["pre-tokenizer", "llama-bpe", "default"]),
        ("scores", lambda old: None, ["lacks a field", "tokenizer.ggml.scores"]),
        ("scores", lambda old: old[:-1], ["not equally long", f"{SIZE} scores"]),
        ("scores", lambda old: [-1000.0] * len(old), ["do not say which", "-1000 stands there more than once"]),
        ("scores", lambda old: [float("nan"), *old[1:]], ["finite numbers"]),
        ("tokens", lambda old: ["none" if t == "<0x41>" else t for t in old], ["all bytes", "<0x41> is not there"]),
        ("tokens", lambda old: [*old[:-1], "ab" * 600], ["absurd length", "1000 characters, not 1200"]),
        ("remove_extra_whitespaces", lambda old: True, ["remove_extra_whitespaces = True"]),
        ("merges", lambda old: ["t h"], ["not known", "merges = ['t h']"]),
    ],
)
def test_what_is_not_supported_is_refused_by_name(trained, tmp_path, key, change, words):
    changed = fields(*trained)
    changed[f"tokenizer.ggml.{key}"] = change(changed.get(f"tokenizer.ggml.{key}"))
    check_refused(write(tmp_path, "llama", changed), words)
