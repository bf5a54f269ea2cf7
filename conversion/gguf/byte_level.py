"""Byte-level BPE tokenizers (``tokenizer.ggml.model = gpt2``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dualtune_mlx.conversion.gguf.fields import Fields

# The word-splitting patterns of the models' own tokenizer.json files.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """How a text is cut into words before they are merged.

    ``whole_words``: a word that is a token is that token, whatever its merges. ``composed``: texts are brought into
    Unicode's form NFC first. ``begins``: a text begins with the token BOS where the file does not say.
    """

    split: pre_tokenizers.PreTokenizer
    whole_words: bool = False
    composed: bool = False
    begins: bool = False


def _byte_level(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _words(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _byte_level(False)])


GPT2 = PreTokenizer(_byte_level(True))
LLAMA3 = PreTokenizer(_words(LLAMA3_WORDS), whole_words=True, begins=True)
QWEN2 = PreTokenizer(_words(QWEN2_WORDS), composed=True)
PRE_TOKENIZERS = {
    "gpt-2": GPT2,
    "smollm": PreTokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level(True)])),
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "tekken": PreTokenizer(_words(TEKKEN_WORDS), whole_words=True, begins=True),
}
"""By ``tokenizer.ggml.pre``; names in a row are llama.cpp's for the same."""


def byte_level(fields: Fields, vocabulary: Mapping[str, int]) -> tuple[Tokenizer, bool]:
    """The tokenizer without its added tokens, and whether a text begins with BOS where the file does not say.

    Raises:
        ConversionError: for another pre-tokenizer, or merges of tokens that are not there.
    """
    name = fields.text("ggml.pre")
    if name not in PRE_TOKENIZERS:
        raise fields.refusal(
            "this GGUF pre-tokenizer is not supported", "ggml.pre", f"one of {', '.join(PRE_TOKENIZERS)}"
        )
    if fields.flag("ggml.add_space_prefix", False):
        raise fields.refusal(
            "this GGUF tokenizer is not supported", "ggml.add_space_prefix", "False for byte-level BPE"
        )
    fields.numbers("ggml.scores", None)
    pairs = [tuple(merge.split(" ", 1)) for merge in fields.texts("ggml.merges")]
    odd = next((pair for pair in pairs if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys()), None)
    if odd:
        raise fields.refusal("the GGUF tokenizer merges tokens that it lacks", "ggml.merges", f"no {' '.join(odd)!r}")
    pre = PRE_TOKENIZERS[name]
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=pairs, ignore_merges=pre.whole_words))
    if pre.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre.split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre.begins
