"""Names of tools and parameters as words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from dualtune_mlx.synthesis.phrasing.tables import families, word_set, word_table

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


def split_name(name: str) -> list[str]:
    """The words of a name in small letters: ``getUser_byID`` gives ``get user by id``."""
    return [word.lower() for word in WORD.findall(name)]


def readable(words: Sequence[str]) -> str:
    """Words of a name as people write them."""
    return " ".join(word_table("abbreviations").get(word, word) for word in words)


def shared_prefix(names: Sequence[str]) -> list[str]:
    """The words that all names begin with, such as their server's name; none of them says what is done."""
    split = [split_name(name) for name in names]
    prefix: list[str] = []
    while len(split) > 1 and all(len(words) > len(prefix) + 1 for words in split):
        word, count = Counter(words[len(prefix)] for words in split).most_common(1)[0]
        if count < len(split) or word in families():
            break
        prefix.append(word)
    return prefix


def tool_words(name: str, prefix: Sequence[str]) -> list[str]:
    """The words of a tool's name that say something: without its server's name, without ``tool``."""
    words = split_name(name)
    words = words[len(prefix) :] if words[: len(prefix)] == list(prefix) else words
    return [word for word in words if word not in word_set("empty_words")] or words
