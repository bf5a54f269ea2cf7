"""SentencePiece tokenizers (``tokenizer.ggml.model = llama``): those of Llama 2, Mistral and Gemma.

llama.cpp joins the two neighbours whose piece has the highest score, the leftmost first. This is BPE with the merges in
the order of their pieces' scores, and with bytes for the characters that are not pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tokenizers import Tokenizer, decoders, models, normalizers

from dualtune_mlx.conversion.gguf.fields import Fields

SPACE = "▁"
NORMAL = 1
NO_PRE_TOKENIZER = "default"
LONGEST = 1000
"""The most characters of a piece. Finding its merges takes their square."""
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def make_sentencepiece(
    fields: Fields, vocabulary: Mapping[str, int], kinds: Mapping[str, int], unknown: str | None
) -> Tokenizer:
    """Make the tokenizer, without its added tokens.

    Args:
        fields: the fields under ``tokenizer.``.
        vocabulary: the id of each token.
        kinds: the type of each token.
        unknown: the token for unknown characters.

    Raises:
        ConversionError: when tokens for bytes are missing, or the scores leave the order of merges open.
    """
    if fields.text("ggml.pre", NO_PRE_TOKENIZER) != NO_PRE_TOKENIZER:
        raise fields.refusal("this GGUF pre-tokenizer is not supported", "ggml.pre", NO_PRE_TOKENIZER)
    scores = fields.numbers("ggml.scores")
    if len(scores) != len(vocabulary):
        raise fields.refusal(
            "the GGUF tokenizer's lists are not equally long", "ggml.scores", f"{len(vocabulary)} scores"
        )
    missing = next((token for token in BYTES if token not in vocabulary), None)
    if missing:
        raise fields.refusal(
            "this GGUF tokenizer is not supported", "ggml.tokens", f"tokens for all bytes, {missing} is not there"
        )
    pieces = {token: scores[index] for token, index in vocabulary.items() if kinds[token] == NORMAL}
    long = next((piece for piece in pieces if len(piece) > LONGEST), None)
    if long is not None:
        raise fields.refusal(
            "the GGUF tokenizer has a piece of absurd length", "ggml.tokens", f"{LONGEST} characters, not {len(long)}"
        )
    tokenizer = Tokenizer(
        models.BPE(
            vocab=dict(vocabulary),
            merges=derive_merges(fields, pieces),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = fields.flag("ggml.add_space_prefix", True)
    escape = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), escape]) if prefix else escape
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prefix else [])
    )
    return tokenizer


def derive_merges(fields: Fields, pieces: Mapping[str, float]) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, the best score first. For one piece, the longest left part comes first.

    Raises:
        ConversionError: when two pieces that are made of others have the same score.
    """
    pairs = {piece: list(_split_piece(piece, pieces)) for piece in pieces}
    again = Counter(pieces[piece] for piece in pieces if pairs[piece])
    if again and max(again.values()) > 1:
        raise fields.refusal(
            "the GGUF tokenizer's scores do not say which pieces are joined first",
            "ggml.scores",
            f"another score for each piece, {max(again, key=again.__getitem__):g} stands there more than once",
        )
    return [pair for piece in sorted(pieces, key=lambda piece: -pieces[piece]) for pair in pairs[piece]]


def _split_piece(piece: str, pieces: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for cut in range(len(piece) - 1, 0, -1):
        if piece[:cut] in pieces and piece[cut:] in pieces:
            yield piece[:cut], piece[cut:]
