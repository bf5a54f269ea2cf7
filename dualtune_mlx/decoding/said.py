"""Whether a request says an optional argument, judged by the argument's own words: a start for tools never seen.

    logit = Σ WEIGHTS[feature] · feature

The weights are those of a logistic regression over the hand-written requests of the start corpus
(``start.said.fit_said``), so they know no tool by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

import regex  # type: ignore[import-untyped]

from dualtune_mlx.decoding.places import find_properties, list_types
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.lexical import split_pieces, split_words

WEIGHTS: Mapping[str, float] = {
    "bias": -1.01,
    "name": 1.57,
    "name's last word": 0.81,
    "pieces of the name": 1.51,
    "a listed value": 2.51,
    "description": 0.99,
    "share of the description": 1.29,
    "a number": -1.64,
    "a number, and one is left": 2.32,
    "yes or no": -0.64,
    "yes or no, by name": 0.78,
    "a list": -0.42,
    "a text, by description": 0.51,
    "a date, and one is said": 0.80,
    "words": 1.01,
    "how many there are": -0.39,
}
"""By feature."""
USUAL = -0.53
"""The logit of how often an optional argument is there at all, in the same requests."""
_NUMBER = regex.compile(r"\b\d+(?:\.\d+)?\b|\b(?i:one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred)\b")
_DATE = regex.compile(r"\d{4}|day\b|week|month|since|until|between|tomorrow")
_DATE_NAME = regex.compile(r"date|time|since|until|start|end|from|to$")
_NUMERIC = frozenset(("integer", "number"))


def said_features(request: str, tool: Tool, name: str) -> dict[str, float]:
    """What a request has of an argument, as numbers by name.

    Args:
        request: the request.
        tool: the tool.
        name: one of its arguments.
    """
    properties = find_properties(tool)
    schema, required = properties[name], tool.parameters.get("required", ())
    words, types = split_words(request), _types(schema)
    named = split_words(name)
    own = set(named) - set(split_words(tool.name))
    described = set(split_words(str(schema.get("description", "")))) - own - set(split_words(tool.name))
    common, pieces = len(described & set(words)), set(split_pieces(sorted(own)))
    hit = len(own & set(words)) / max(len(own), 1)
    numbers = len(_NUMBER.findall(request))
    taken = sum(bool(_types(properties.get(one, {})) & _NUMERIC) for one in required)
    is_date = bool(_DATE_NAME.search(name.lower()))
    return {
        "bias": 1.0,
        "name": hit,
        "name's last word": float(bool(named) and named[-1] in own & set(words)),
        "pieces of the name": len(pieces & set(split_pieces(words))) / max(len(pieces), 1),
        "a listed value": float(any(_is_said(value, set(words)) for value in schema.get("enum", ()))),
        "description": min(common, 4) / 4,
        "share of the description": common / max(len(described), 1),
        "a number": float(bool(types & _NUMERIC)),
        "a number, and one is left": float(bool(types & _NUMERIC) and numbers > taken),
        "yes or no": float("boolean" in types),
        "yes or no, by name": hit * ("boolean" in types),
        "a list": float("array" in types),
        "a text, by description": min(common, 3) / 3 * ("string" in types),
        "a date, and one is said": float(is_date and bool(_DATE.search(request.lower()))),
        "words": log(1 + len(words)) / 4,
        "how many there are": log(max(len(properties) - len(required), 1)),
    }


def said_logit(request: str, tool: Tool, name: str) -> float:
    """How likely it is that a request says an optional argument, as a logit."""
    return sum(WEIGHTS[feature] * value for feature, value in said_features(request, tool, name).items())


def _types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a place may have, also by one of several alternatives."""
    alternatives = [one for one in schema.get("anyOf", ()) if isinstance(one, Mapping)]
    return set.union(list_types(schema), *map(list_types, alternatives))


def _is_said(value: object, words: set[str]) -> bool:
    said = set(split_words(value)) if isinstance(value, str) else set()
    return bool(said) and said <= words
