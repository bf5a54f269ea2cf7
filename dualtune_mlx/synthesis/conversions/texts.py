"""Words in a text: whether they stand there, and which words a text has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import regex  # type: ignore[import-untyped]
import snowballstemmer

from dualtune_mlx.synthesis.conversions.tables import read_set


def read_words(text: str) -> tuple[str, ...]:
    """Words that are written in a row."""
    return tuple(text.split())


ALIKE = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " ", "\u202f": " "})  # noqa: RUF001
"""Characters that are typed one way or the other."""
QUOTED = re.compile(r"""(?<!\w)(["'`])(?=\S)(.+?)(?<=\S)\1(?!\w)|[«„]\s?(.+?)\s?[»“"]""", re.DOTALL)
"""What stands between quotation marks. An apostrophe inside a word is none."""
STOP_WORDS = read_set("stop")
"""Words that say nothing of what a parameter is about."""
_PARTS = regex.compile(r"\p{Lu}{2,}(?=\p{Lu}\p{Ll}|\b|_|\d)|\p{Lu}?\p{Ll}+|\p{Lu}+|\d+|[^\W\d_]+")
_WORDS = re.compile(r"[^\W_]+")
_stemmer = snowballstemmer.stemmer("english")


def split_name(name: str) -> list[str]:
    """The words of a name, in lower case: ``includeArchived_v2`` is include, archived, v, 2."""
    return [part.lower() for part in _PARTS.findall(name)]


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """The stem of an English word."""
    stemmed: str = _stemmer.stemWord(word.lower())
    return stemmed


@lru_cache(maxsize=256)
def list_stems(text: str) -> frozenset[str]:
    """The stems of a text's words, those of names taken apart too."""
    return frozenset(stem(word) for word in (*list_words(text), *split_name(text)))


def list_words(text: str) -> list[str]:
    """The words of a text in lower case; an apostrophe divides them."""
    return [word.lower() for word in _WORDS.findall(text)]


def list_content(text: str) -> frozenset[str]:
    """The stems of the words that say what a text is about."""
    return frozenset(stem(word) for word in split_name(text) if len(word) > 2 and word not in STOP_WORDS)


@lru_cache(maxsize=1024)
def fold(text: str) -> str:
    """The text with one kind of quotation mark, dash and blank."""
    return " ".join(unicodedata.normalize("NFC", text).translate(ALIKE).split())


def holds(text: str, words: str, any_case: bool = True) -> bool:
    """Whether words stand in a text as whole words."""
    return any(True for _ in find_places(text, words, any_case))


def find_places(text: str, words: str, any_case: bool = True) -> Iterator[tuple[int, int]]:
    """Where words stand in a folded text as whole words."""
    words = fold(words)
    if words:
        yield from (match.span() for match in _compile(words, any_case).finditer(fold(text)))


@lru_cache(maxsize=8192)
def _compile(words: str, any_case: bool) -> re.Pattern[str]:
    before = r"(?<!\w)" if words[0].isalnum() else ""
    after = r"(?!\w)" if words[-1].isalnum() else ""
    return re.compile(before + re.escape(words) + after, re.IGNORECASE if any_case else 0)
