"""The tokenizer inside a GGUF file, written as a Hugging Face tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from dualtune_mlx.conversion.gguf_file import GGUFFile
from dualtune_mlx.errors import ConversionError

CONTROL, USER_DEFINED = 3, 4

# The word-splitting patterns of the models' own tokenizer.json files.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _byte_level(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _words(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _byte_level(False)])


PRE_TOKENIZERS = {
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level(True)]),
    "gpt-2": _byte_level(True),
    "qwen2": _words(QWEN2_WORDS),
    "llama-bpe": _words(LLAMA3_WORDS),
}


def write_tokenizer(gguf: GGUFFile, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` of a byte-level BPE tokenizer.

    Raises:
        ConversionError: when the tokenizer is of another kind.
    """
    meta = gguf.metadata
    kind, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ConversionError(
            "this GGUF tokenizer is not supported",
            where=gguf.path,
            got=f"model {kind!r}, pre-tokenizer {pre!r}",
            expected=f"model 'gpt2' with one of {', '.join(PRE_TOKENIZERS)}",
        )
    tokens, merges = meta.get("tokenizer.ggml.tokens", []), meta.get("tokenizer.ggml.merges", [])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    odd = next((pair for pair in pairs if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys()), None)
    if odd:
        raise ConversionError("the GGUF tokenizer merges tokens that it lacks", where=gguf.path, got=" ".join(odd))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]
    tokenizer.decoder = decoders.ByteLevel()
    types = meta.get("tokenizer.ggml.token_type", [])
    kinds = dict(zip(tokens, types, strict=False))
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in tokens if kinds.get(t) == CONTROL]
    )
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in tokens if kinds.get(t) == USER_DEFINED])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config(meta, tokens), indent=2) + "\n")


def _tokenizer_config(meta: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    def token(role: str) -> str | None:
        key = f"tokenizer.ggml.{role}_token_id"
        index = meta.get(key)
        if index is not None and index >= len(tokens):
            raise ConversionError("the GGUF tokenizer lacks a token", where=key, got=index, expected=f"< {len(tokens)}")
        return tokens[index] if index is not None else None

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "add_bos_token": bool(meta.get("tokenizer.ggml.add_bos_token", False)),
        "clean_up_tokenization_spaces": False,
        "chat_template": meta.get("tokenizer.chat_template"),
    }
