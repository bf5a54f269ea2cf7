"""Codes that stand for a name: a colour, a language, a country, a currency."""

from __future__ import annotations

from collections.abc import Mapping

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.tables import TABLES
from dualtune_mlx.synthesis.conversions.texts import split_name
from dualtune_mlx.tools.parameters import Parameter

OF_NAMES = {
    "language": "languages",
    "languages": "languages",
    "lang": "languages",
    "locale": "languages",
    "country": "countries",
    "region": "countries",
    "currency": "currencies",
    "currencies": "currencies",
}
"""The table of codes by a word of the parameter's name."""


def find_codes(parameter: Parameter) -> Mapping[str, str]:
    """The codes that a parameter's values may be, with their names; none where it takes no codes."""
    tables = (OF_NAMES[word] for word in reversed(split_name(parameter.path)) if word in OF_NAMES)
    found: Mapping[str, str] = TABLES.get(next(tables, ""), {})
    return found


def _list_words(leaf: Leaf) -> list[str]:
    if not isinstance(leaf.value, str):
        return []
    colour = TABLES["colours"].get(leaf.value.removeprefix("#").upper())
    if colour and len(leaf.value.removeprefix("#")) == 6:
        return [colour]
    codes = find_codes(leaf.parameter)
    named = codes.get(leaf.value) or codes.get(leaf.value.lower()) or codes.get(leaf.value.upper())
    return [named] if named else []


def _list_other_words(leaf: Leaf) -> list[str]:
    words = [word.removeprefix("the ") for word in _list_words(leaf)]
    spelled = [word.replace("grey", "gray") for word in words] + [word.rstrip("s") for word in words]
    # A colour is written with the sign or without it, and its letters in either case.
    bare = leaf.value.removeprefix("#") if isinstance(leaf.value, str) and leaf.value.startswith("#") else ""
    return [*words, *spelled, bare, *({"EUR": ["€"], "USD": ["$"], "GBP": ["£"]}.get(leaf.value, []) if words else [])]


CODE = Conversion("code", _list_words, _list_other_words)
"""The name for a code: ``red`` for #FF0000, ``German`` for de."""
