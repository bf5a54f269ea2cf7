"""What kind of value a parameter takes: seen by its format, its name, its description."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from dualtune_mlx.synthesis.conversions.texts import split_name, stem
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.tools.parameters import Parameter

KINDS: dict[str, list[tuple[str, ...]]] = {
    kind: sorted((tuple(map(stem, name.split())) for name in names.split(", ")), key=len, reverse=True)
    for kind, names in read_toml("planning/kinds.toml").items()
}
"""The names of each kind's parameters, as stems of words."""
FORMATS = {
    "date": "date",
    "date-time": "moment",
    "time": "clock",
    "duration": "iso_duration",
    "email": "email",
    "idn-email": "email",
    "uri": "url",
    "url": "url",
    "uri-reference": "url",
    "iri": "url",
    "hostname": "host",
    "ipv4": "address_ip",
    "ipv6": "address_ipv6",
    "uuid": "uuid",
    "regex": "regex",
    "json-pointer": "json_pointer",
    "json": "json",
}
"""Kinds by the format that a schema asks for."""
DESCRIBED = (
    ("clock", r"^(?!.*(?:YYYY|date)).*HH:MM"),
    ("moment", r"RFC ?3339|ISO ?8601 (?:date-?time|timestamp)|date-?time|YYYY-MM-DD[T ]HH|timestamp"),
    ("date", r"YYYY-MM-DD|ISO ?8601|ISO date"),
    ("uuid", r"\bUUID\b|\bGUID\b"),
    ("colour", r"\bhex\b|#RRGGBB|colou?r"),
    ("url", r"\bURL\b|\bURI\b"),
    ("email", r"e-?mail address"),
    ("file", r"path (?:to|of) (?:the|a|an)?\s?\w* ?file|file path|filename"),
    ("folder", r"path (?:to|of) (?:the|a)?\s?(?:folder|directory)"),
    ("timezone", r"\bIANA\b|time ?zone"),
    ("regex", r"\bregex|regular expression"),
    ("language", r"language code|ISO 639"),
    ("country", r"country code|ISO 3166"),
    ("currency", r"currency code|ISO 4217"),
    ("range", r"A1 notation"),
    ("sql", r"\bSQL\b"),
    ("id", r"\bID\b|identifier"),
    ("person", r"name of (?:the|a) person"),
    ("search", r"search (?:query|term)|keywords?"),
)
"""Kinds by what a description says, where the name is of no kind."""
UNSAYABLE = frozenset(("opaque",))
"""Kinds whose values nobody says by heart."""


def find_kind(parameter: Parameter) -> str:
    """The kind of a parameter's strings; "" for one that nothing is known of."""
    formats = [FORMATS[one["format"]] for one in parameter.alternatives if one.get("format") in FORMATS]
    if formats:
        return formats[0]
    by_name = find_named_kind(parameter.path)
    if by_name not in ("", "value", "id", "name", "label", "title", "number_words"):
        return _correct(by_name, parameter.description)
    return find_described_kind(parameter.description) or by_name


def _correct(kind: str, description: str) -> str:
    """Whether a point in time is a date alone, or in a form of its own, is told by the description."""
    if kind in ("moment", "clock", "date") and (described := find_described_kind(description)) in (
        "moment",
        "date",
        "clock",
    ):
        return described
    return kind


@lru_cache(maxsize=8192)
def find_named_kind(path: str) -> str:
    """The kind that a parameter's name stands for. For an item of a list it is the list's name."""
    words = tuple(map(stem, split_name(path.removesuffix("[]").rpartition(".")[2])))
    ends = (kind for size in (3, 2, 1) for kind, names in KINDS.items() if words[-size:] in names)
    anywhere = (kind for kind, names in KINDS.items() if any(_contains(words, name) for name in names))
    return next(ends, "") or next(anywhere, "")


def _contains(words: Sequence[str], name: tuple[str, ...]) -> bool:
    return any(tuple(words[start : start + len(name)]) == name for start in range(len(words) - len(name) + 1))


@lru_cache(maxsize=8192)
def find_described_kind(description: str) -> str:
    """The kind that a description speaks of; "" for none."""
    return next((kind for kind, words in DESCRIBED if re.search(words, description)), "")
