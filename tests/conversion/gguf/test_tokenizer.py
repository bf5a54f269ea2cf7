"""Tokenizers: the same ids as the models' own, and refusals by name."""

from __future__ import annotations

import mlx_lm
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from dualtune_mlx.conversion.gguf import from_gguf
from tests import tiny
from tests.conversion.gguf import writer as gguf
from tests.conversion.gguf.test_convert import check_refused

TEXTS = [
    "",
    " ",
    "   leading and   inner  spaces ",
    "it's WE'LL 'D don't",
    "12345 a1b22 3.14159 ½ Ⅷ",
    "tabs\tand\nnew\r\nlines\n\n \n x",
    "Zoë cafe\u0301 n\u0303 Å",
    "日本語のテキスト、中文 한국어",
    "👩‍👩‍👧 emoji 🇩🇪🏳️‍🌈",
    "!!?...---/*<|x|>*/ [](){}",
    "def f(x):\n    return x**2  # done",
    "\x00\x7f\u200b\ufeff\U0010ffff",
]


def load(path, **changes):
    folder = from_gguf(gguf.tiny_gguf(path / "m.gguf", **changes), path / "out")
    return mlx_lm.load(str(folder))[1]


def test_the_tokenizer_is_the_file_s(tmp_path):
    tokenizer = load(tmp_path)
    ids = tokenizer.encode("in the<|im_end|><tool_call>", add_special_tokens=False)
    tokens = gguf.fields()["tokenizer.ggml.tokens"]
    assert [tokens[i] for i in ids] == ["i", "n", "Ġt", "he", "<|im_end|>", "<tool_call>"]
    assert tokenizer.decode(ids) == "in the<|im_end|><tool_call>"
    added = tokenizer.added_tokens_decoder
    assert added[tokens.index("<|im_end|>")].special
    assert not added[tokens.index("<tool_call>")].special
    assert tokenizer.chat_template == "{{ messages }}"


@pytest.mark.parametrize("text", TEXTS)
def test_a_qwen2_file_gives_the_ids_of_transformers_tokenizer(tmp_path, text):
    fields = gguf.tokenizer_fields()
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    theirs = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    ours = load(tmp_path, **{"tokenizer.ggml.pre": "qwen2"})
    ids = ours.encode(text, add_special_tokens=False)
    assert ids == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("pre", "words"),
    [
        ("gpt-2", ["We", "'ll", "ĠMeet", "Ġ", "Ġat", "Ġ12345", "!", "Ċ", "Ċ", "USAid", "Ġ/", "Ċ"]),
        ("smollm", ["We", "'ll", "ĠMeet", "Ġ", "Ġat", "Ġ", "1", "2", "3", "4", "5", "!", "Ċ", "Ċ", "USAid", "Ġ/", "Ċ"]),
        ("llama-bpe", ["We", "'ll", "ĠMeet", "Ġ", "Ġat", "Ġ", "123", "45", "!ĊĊ", "USAid", "Ġ/Ċ"]),
        ("qwen2", ["We", "'ll", "ĠMeet", "Ġ", "Ġat", "Ġ", "1", "2", "3", "4", "5", "!ĊĊ", "USAid", "Ġ/Ċ"]),
        ("tekken", ["We", "'ll", "ĠMeet", "Ġ", "Ġat", "Ġ", "1", "2", "3", "4", "5", "!ĊĊ", "USAid", "Ġ/Ċ"]),
    ],
)
def test_words_are_cut_as_each_pre_tokenizer_does(tmp_path, pre, words):
    tokenizer = load(tmp_path, **{"tokenizer.ggml.pre": pre})
    cut = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("We'll Meet  at 12345!\n\nUSAid /\n")
    assert [word for word, _ in cut] == words


@pytest.mark.parametrize(("pre", "whole"), [("llama-bpe", True), ("tekken", True), ("qwen2", False), ("gpt-2", False)])
def test_a_word_that_no_merge_leads_to_is_a_token_where_the_model_s_own_tokenizer_has_it_so(tmp_path, pre, whole):
    tokens = gguf.tokenizer_fields()["tokenizer.ggml.tokens"]
    tokens[271] = "word"
    ids = load(tmp_path, **{"tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens}).encode(
        "word", add_special_tokens=False
    )
    assert (ids == [271]) is whole


@pytest.mark.parametrize(
    ("changes", "begins", "ends"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, True, False),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}, True, True),
        ({"tokenizer.ggml.add_bos_token": None}, False, False),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}, True, False),
        ({"tokenizer.ggml.pre": "llama-bpe"}, False, False),
    ],
)
def test_a_text_begins_and_ends_as_the_file_says(tmp_path, changes, begins, ends):
    ids = load(tmp_path, **{"tokenizer.ggml.bos_token_id": 263, **changes}).encode("ab")
    letters = tiny.tokenizer().encode("ab", add_special_tokens=False)
    assert ids == [263] * begins + letters + [258] * ends


def test_the_token_that_texts_begin_with_may_look_like_anything(tmp_path):
    fields = gguf.tokenizer_fields()
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    tokens[271], types[271] = "$A:7", 3
    named = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.bos_token_id": 271}
    ids = load(tmp_path, **named, **{"tokenizer.ggml.add_bos_token": True}).encode("a")
    assert ids == [271, *tiny.tokenizer().encode("a", add_special_tokens=False)]


def test_all_roles_of_tokens_are_carried_over(tmp_path):
    roles = {"bos": 263, "unknown": 256, "padding": 257}
    tokenizer = load(tmp_path, **{f"tokenizer.ggml.{role}_token_id": i for role, i in roles.items()})
    found = (tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert found == (263, 256, 257, 258)


def test_templates_beside_the_default_one_are_carried_over(tmp_path):
    named = {"tokenizer.chat_templates": ["tool_use"], "tokenizer.chat_template.tool_use": "{{ tools }}"}
    tokenizer = load(tmp_path, **named)
    assert tokenizer.chat_template == {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    messages = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == str(messages)


def test_the_reference_is_a_tokenizer_written_by_hand(tmp_path):
    """The same vocabulary and merges, put together from the library's parts."""
    fields = gguf.tokenizer_fields()
    vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"])}
    reference = Tokenizer(models.BPE(vocabulary, [("Ġ", "t"), ("h", "e")]))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.decoder = decoders.ByteLevel()
    reference.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tiny.SPECIAL])
    reference.add_tokens([AddedToken(token, normalized=False) for token in tiny.PLAIN_ADDED])
    ours = load(tmp_path)
    for text in [*TEXTS, "<|im_start|>the the<tool_call>"]:
        ids = ours.encode(text, add_special_tokens=False)
        assert ids == reference.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == reference.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer.ggml.model": "t5"}, ["tokenizer", "ggml.model = 't5'", "gpt2 or llama"]),
        ({"tokenizer.ggml.model": None}, ["lacks a field", "tokenizer.ggml.model"]),
        ({"tokenizer.ggml.pre": "deepseek-llm"}, ["pre-tokenizer", "deepseek-llm", "smollm", "qwen2"]),
        ({"tokenizer.ggml.pre": None}, ["lacks a field", "tokenizer.ggml.pre"]),
        ({"tokenizer.ggml.tokens": None}, ["lacks a field", "tokenizer.ggml.tokens"]),
        ({"tokenizer.ggml.tokens": [1, 2]}, ["tokenizer.ggml.tokens = [1, 2]", "a list of texts"]),
        ({"tokenizer.ggml.tokens": ["a", "b"]}, ["not equally long", "token_type", "2 types"]),
        ({"tokenizer.ggml.token_type": ["x"]}, ["token_type = ['x']", "a list of whole numbers"]),
        ({"tokenizer.ggml.merges": ["h e", "x yy"]}, ["merges tokens that it lacks", "'x yy'"]),
        ({"tokenizer.ggml.merges": ["he"]}, ["merges tokens that it lacks", "'he'"]),
        ({"tokenizer.ggml.eos_token_id": None}, ["lacks a field", "tokenizer.ggml.eos_token_id"]),
        ({"tokenizer.ggml.eos_token_id": 9999}, ["lacks a token", "eos_token_id = 9999", "< 272"]),
        ({"tokenizer.ggml.eos_token_id": -1}, ["eos_token_id = -1", "a whole number from 0 on"]),
        ({"tokenizer.ggml.fim_pre_token_id": 272}, ["lacks a token", "fim_pre_token_id = 272"]),
        ({"tokenizer.ggml.add_bos_token": True}, ["lacks a field", "tokenizer.ggml.bos_token_id"]),
        ({"tokenizer.ggml.add_bos_token": 1}, ["add_bos_token = 1", "true or false"]),
        ({"tokenizer.ggml.add_space_prefix": True}, ["add_space_prefix = True"]),
        ({"tokenizer.ggml.add_sep_token": True}, ["add_sep_token = True"]),
        ({"tokenizer.ggml.precompiled_charsmap": [1, 2]}, ["not known", "precompiled_charsmap"]),
        ({"tokenizer.chat_template": 7}, ["chat_template = 7", "a text"]),
        ({"tokenizer.chat_templates": ["rag"]}, ["lacks a field", "tokenizer.chat_template.rag"]),
        ({"tokenizer.chat_template.rag": "x"}, ["not known", "tokenizer.chat_template.rag = 'x'"]),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, changes, words):
    check_refused(gguf.tiny_gguf(tmp_path / "m.gguf", **changes), words)


def test_a_token_that_stands_there_twice_is_refused(tmp_path):
    tokens = gguf.tokenizer_fields()["tokenizer.ggml.tokens"]
    tokens[271] = "he"
    check_refused(gguf.tiny_gguf(tmp_path / "m.gguf", **{"tokenizer.ggml.tokens": tokens}), ["a token twice", "'he'"])
