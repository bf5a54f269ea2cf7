"""Values that are said as they are."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.texts import QUOTED, find_places, fold
from dualtune_mlx.tools.parameters import Parameter

_WORDS_ALONE = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*[.!?]?")
"""A value of words alone, which is the same in any case."""


def _list_words(leaf: Leaf) -> list[str]:
    return [leaf.value] if isinstance(leaf.value, str) and leaf.value else []


def _recognize(leaf: Leaf, text: str) -> bool:
    if not isinstance(leaf.value, str) or not leaf.value.strip():
        return False
    spellings = {leaf.value, leaf.value.rstrip(".!?") if len(leaf.value) > 3 else leaf.value}
    if "://" in leaf.value:
        spellings |= {leaf.value.rstrip("/"), leaf.value.split("://", 1)[1].rstrip("/")}
    return any(_stands_whole(text, spelling) for spelling in spellings)


def _stands_whole(text: str, value: str) -> bool:
    """Whether a value stands in a text, and not as the first part alone of something in quotation marks."""
    any_case = bool(_WORDS_ALONE.fullmatch(fold(value))) and len(value) > 2
    quoted = [match.span(match.lastindex or 0) for match in QUOTED.finditer(fold(text))]
    return any(
        not any(_is_cut(place, quote, fold(text)) for quote in quoted) for place in find_places(text, value, any_case)
    )


def _is_cut(place: tuple[int, int], quote: tuple[int, int], text: str) -> bool:
    """Whether a place begins where a quotation begins, and ends before it does."""
    return place[0] == quote[0] and place[1] < quote[1] and bool(text[place[1] : quote[1]].strip(".!?,; "))


VERBATIM = Conversion("verbatim", _list_words, recognize=_recognize)
"""Text as it is; the case of words alone and the number of blanks do not count. What is quoted is said whole."""


def stands_verbatim(value: str, text: str) -> bool:
    """Whether a text says a string as it is."""
    return _recognize(Leaf(Parameter("", {}, (), False), value), text)
