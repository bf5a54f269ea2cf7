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
    """How a text is split into words, in which tokens are merged."""

    split: pre_tokenizers.PreTokenizer
    """Splits a text into words."""
    ignore_merges: bool = False
    """Whether a word that is a token becomes that token, whatever the merges say."""
    nfc: bool = False
    """Whether texts are normalised to Unicode's form NFC first."""
    adds_bos: bool = False
    """Whether a text begins with the token BOS, where the file does not say."""


def _byte_level(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _split_words(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _byte_level(False)])


GPT2 = PreTokenizer(_byte_level(True))
LLAMA3 = PreTokenizer(_split_words(LLAMA3_WORDS), ignore_merges=True, adds_bos=True)
QWEN2 = PreTokenizer(_split_words(QWEN2_WORDS), nfc=True)
PRE_TOKENIZERS = {
    "gpt-2": GPT2,
    "smollm": PreTokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level(True)])),
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "tekken": PreTokenizer(_split_words(TEKKEN_WORDS), ignore_merges=True, adds_bos=True),
}
"""By ``tokenizer.ggml.pre``. llama.cpp has several names for some of them."""


def make_byte_level(fields: Fields, vocabulary: Mapping[str, int]) -> tuple[Tokenizer, bool]:
    """Make the tokenizer, without its added tokens; and say whether a text begins with BOS by default.

    Raises:
        ConversionError: when the pre-tokenizer is not supported, or merges name tokens that do not exist.
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
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=pairs, ignore_merges=pre.ignore_merges))
    if pre.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre.split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre.adds_bos
