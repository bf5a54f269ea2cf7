"""Codes that stand for a name: a colour, a language, a country, a currency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.tables import TABLES
from dualtune_mlx.synthesis.conversions.texts import split_name
from dualtune_mlx.synthesis.descriptions import list_choices
from dualtune_mlx.tools.parameters import Parameter

CODES = ("languages", "countries", "currencies", "units", "files")
"""The tables of codes."""
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
"""The table of codes by a word of the parameter's name or description."""
SIGNS = {"EUR": "€", "USD": "$", "GBP": "£"}


def find_codes(parameter: Parameter) -> Mapping[str, str]:
    """The codes that a parameter's values may be, with their names; none where it takes no codes."""
    choices = {str(one).upper() for one in list_choices(parameter)}
    if choices:
        tables = (TABLES[name] for name in CODES)
        return next((one for one in tables if choices <= {code.upper() for code in one}), {})
    words = (*reversed(split_name(parameter.path)), *split_name(parameter.description))
    tables = (OF_NAMES[word] for word in words if word in OF_NAMES)
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


def _list_any(value: Any) -> list[str]:
    """What a short string stands for in any of the tables."""
    if not isinstance(value, str) or not 0 < len(value) < 5:
        return []
    spellings = {value, value.lower(), value.upper()}
    return [name for table in CODES for code, name in TABLES[table].items() if code in spellings]


def _list_signs(value: Any) -> list[str]:
    return [SIGNS[value]] if isinstance(value, str) and value in SIGNS else []


def _list_other_words(leaf: Leaf) -> list[str]:
    words = [word.removeprefix("the ") for word in _list_words(leaf) or _list_any(leaf.value)]
    spelled = [word.replace("grey", "gray") for word in words] + [word.removesuffix("s") for word in words]
    # A colour is written with the sign or without it, and its letters in either case.
    bare = leaf.value.removeprefix("#") if isinstance(leaf.value, str) and leaf.value.startswith("#") else ""
    return [*words, *spelled, *(word.rpartition(" ")[2] for word in spelled), bare, *_list_signs(leaf.value)]


CODE = Conversion("code", _list_words, _list_other_words)
"""The name for a code: ``red`` for #FF0000, ``German`` for de."""
