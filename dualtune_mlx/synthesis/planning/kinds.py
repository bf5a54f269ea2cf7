"""What kind of value a parameter takes: seen by its format, its name, its description."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from dualtune_mlx.synthesis.conversions.texts import list_stems, split_name, stem
from dualtune_mlx.synthesis.values.sampling import read_toml
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter

Names = list[tuple[str, ...]]


def _read_names(names: str) -> Names:
    """Names between commas as the stems of their words, long names first."""
    return sorted((tuple(map(stem, name.split())) for name in names.split(", ")), key=len, reverse=True)


_TABLES = read_toml("planning/kinds.toml")
KINDS: dict[str, Names] = {kind: _read_names(names) for kind, names in _TABLES["kinds"].items()}
"""The names of each kind's parameters, as stems of words."""
ABOUT: list[tuple[frozenset[str], dict[str, Names]]] = [
    (frozenset(map(stem, words.split())), {kind: _read_names(names) for kind, names in kinds.items()})
    for words, kinds in ((one["words"], {key: one[key] for key in one if key != "words"}) for one in _TABLES["about"])
]
"""Words of tools, with the names that have a kind of their own there."""
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
QUERIES = 5
WRITTEN = (
    ("sql", r"\bSQL\b|\bSELECT\b"),
    ("promql", r"\bPromQL\b"),
    ("logql", r"\bLogQL\b"),
    ("traceql", r"\bTraceQL\b"),
    ("javascript", r"\bJavaScript\b"),
    ("regex", r"\b[Rr]eg(?:ex|exp|ular expression)"),
    ("mermaid", r"\bMermaid\b"),
    ("csv", r"\bCSV\b"),
    ("json", r"\bJSON\b|\bquery DSL\b"),
    ("markdown", r"\b[Mm]arkdown\b"),
    ("markup", r"\bXML\b|\bHTML\b|\bSVG\b"),
)
"""Languages that a text is written in, by its description; the first ``QUERIES`` of them by the tool's, too."""
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
    ("rrule", r"\bRRULE\b|RFC ?5545"),
    ("language", r"language code|ISO 639"),
    ("country", r"country code|ISO 3166"),
    ("currency", r"currency code|ISO 4217"),
    ("range", r"A1 notation"),
    ("sql", r"\bSQL\b"),
    ("element", r"element (?:reference|selector)|CSS selector"),
    ("key_press", r"\bkey to press|keyboard key"),
    ("id", r"\bID\b|identifier"),
    ("person", r"name of (?:the|a) person"),
    ("search", r"search (?:query|term)|keywords?"),
)
"""Kinds by what a description says, where the name is of no kind."""
WHOLE = frozenset(("moment", "date", "horizontal", "vertical", "room"))
"""Kinds that a word tells at the end of a name only: a start_element is no time."""
LOOSE = frozenset(("search", "script", "css", "sentence", "value", "json", ""))
"""Kinds of names whose description may tell what language they are written in."""
VAGUE = frozenset(("", "value", "recurrence", "id", "name", "label", "title", "number_words"))
"""Kinds of names that say less than a description does."""
UNSAYABLE = frozenset(("opaque",))
"""Kinds whose values nobody says by heart."""


def find_kind(tool: Tool, parameter: Parameter) -> str:
    """The kind of a parameter's strings; "" for one that nothing is known of."""
    formats = [FORMATS[one["format"]] for one in parameter.alternatives if one.get("format") in FORMATS]
    if formats:
        return formats[0]
    by_name = _find_kind_there(tool, parameter.path) or find_named_kind(parameter.path)
    if by_name in LOOSE:
        asked = tool.description if by_name in ("search", "script") else ""
        written = _find_first(WRITTEN, parameter.description) or _find_first(WRITTEN[:QUERIES], asked)
        if written:
            return written
    if by_name not in VAGUE:
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


def _find_kind_there(tool: Tool, path: str) -> str:
    """The kind that a name stands for in this tool alone: by what the tool speaks of, or by another parameter."""
    name = _read_name(path)
    others = {word for one in tool.parameters.get("properties", {}) for word in split_name(one)}
    if name == ("time",) and others & {"date", "timezone", "zone"}:
        return "clock"
    stems = list_stems(f"{tool.server} {tool.name} {tool.description}")
    kinds = (kinds for words, kinds in ABOUT if not words.isdisjoint(stems))
    return next((kind for one in kinds for kind, names in one.items() if name in names), "")


@lru_cache(maxsize=8192)
def _read_name(path: str) -> tuple[str, ...]:
    """The stems of a parameter's name. For an item of a list it is the list's name."""
    return tuple(map(stem, split_name(path.removesuffix("[]").rpartition(".")[2])))


@lru_cache(maxsize=8192)
def find_named_kind(path: str) -> str:
    """The kind that a parameter's name stands for."""
    words = _read_name(path)
    ends = (kind for size in (3, 2, 1) for kind, names in KINDS.items() if words[-size:] in names)
    others = {kind: names for kind, names in KINDS.items() if kind not in WHOLE}
    anywhere = (kind for kind, names in others.items() if any(_contains(words, name) for name in names))
    return next(ends, "") or next(anywhere, "")


def _contains(words: Sequence[str], name: tuple[str, ...]) -> bool:
    return any(tuple(words[start : start + len(name)]) == name for start in range(len(words) - len(name) + 1))


@lru_cache(maxsize=8192)
def find_described_kind(description: str) -> str:
    """The kind that a description speaks of; "" for none."""
    return _find_first(DESCRIBED, description)


def _find_first(table: Sequence[tuple[str, str]], text: str) -> str:
    return next((kind for kind, words in table if re.search(words, text)), "")
