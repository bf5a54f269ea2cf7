"""Requests written in haste: slips of the keyboard in the words around the values, never in the values."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from dualtune_mlx.synthesis.phrasing.tables import read_table

NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "ko", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip


def add_slips(text: str, values: Sequence[str], rng: random.Random) -> str:
    """The text with one to four slips, without capitals now and then; the values stay as they are."""
    tables = read_table("frames")
    pieces = _divide(text, values)
    words = [
        (at, found)
        for at, (piece, is_value) in enumerate(pieces)
        if not is_value
        for found in re.findall(r"[A-Za-z']{2,}", piece)
    ]
    chosen = {
        word: _slip(word, tables["slang"], rng) for _, word in rng.sample(words, min(len(words), rng.randint(1, 4)))
    }
    small, bare = rng.random() < 0.7, rng.random() < 0.6

    def mend(piece: str) -> str:
        piece = re.sub(r"[A-Za-z']{2,}", lambda m: chosen.get(m[0], m[0]), piece)
        return piece.lower() if small else piece

    last, is_value = pieces[-1]
    if bare and not is_value:
        pieces[-1] = (last.rstrip(".?!"), False)
    said = "".join(piece if is_value else mend(piece) for piece, is_value in pieces)
    if rng.random() < 0.25:
        said = f"{rng.choice(tables['slip_before'])} {said}"
    return f"{said} {rng.choice(tables['slip_after'])}" if rng.random() < 0.25 else said


def _divide(text: str, values: Sequence[str]) -> list[tuple[str, bool]]:
    """The pieces of a text, each with whether it is a value."""
    listed = sorted({value for value in values if value}, key=len, reverse=True)
    if not listed:
        return [(text, False)]
    pattern = re.compile("(" + "|".join(re.escape(value) for value in listed) + ")")
    return [(piece, number % 2 == 1) for number, piece in enumerate(pattern.split(text)) if piece]


def _slip(word: str, slang: dict[str, str], rng: random.Random) -> str:
    if word.lower() in slang and rng.random() < 0.7:
        return slang[word.lower()]
    if len(word) < 3:
        return word
    at = rng.randrange(len(word) - 1)
    draw = rng.random()
    if draw < 0.4:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if draw < 0.65:
        return word[: at + 1] + word[at + 2 :] if at else word[:-1]
    if draw < 0.85:
        return word[:at] + word[at] + word[at:]
    return word[:at] + rng.choice(NEIGHBOURS.get(word[at].lower(), word[at])) + word[at + 1 :]
