"""Values of a list of choices: said in plain words (``in progress``), or by a phrase (``newest first``)."""

from __future__ import annotations

import re
from typing import Any

from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.tables import TABLES, read_set
from dualtune_mlx.synthesis.conversions.texts import holds, list_content, list_stems, list_words, split_name, stem
from dualtune_mlx.synthesis.descriptions import list_choices
from dualtune_mlx.tools.parameters import Parameter

NEGATIONS = read_set("negations")
"""Words that say that something is not wanted."""

_JOINED = re.compile(r"[_-]|[a-z][A-Z]")


def split_choice(value: Any) -> str:
    """A choice in plain words: ``in_progress`` is ``in progress``; what is one word is as it is."""
    if not isinstance(value, str):
        return ""
    return " ".join(split_name(value)) if _JOINED.search(value) else value


def _is_choice(parameter: Parameter, value: Any) -> bool:
    return isinstance(value, str) and value in list_choices(parameter)


def _list_words(leaf: Leaf) -> list[str]:
    words = split_choice(leaf.value) if _is_choice(leaf.parameter, leaf.value) else ""
    return [words] if words and words != leaf.value else []


def _look_up(table: str, leaf: Leaf) -> list[str]:
    words = split_choice(leaf.value).lower() if _is_choice(leaf.parameter, leaf.value) else ""
    return [*TABLES[table].get(words, ())]


def _recognize(leaf: Leaf, text: str) -> bool:
    """Whether the words of a choice stand in a text in any form, or words by which the description explains it."""
    choices = list_choices(leaf.parameter)
    if leaf.value not in choices or isinstance(leaf.value, bool):
        return False
    if isinstance(leaf.value, str) and holds(text, leaf.value):
        return True
    stems = list_stems(text)
    needed = list_content(str(leaf.value)) or {stem(word) for word in split_name(str(leaf.value))}
    if needed and all(one in stems or _is_shortened(one, stems) for one in needed):
        return True
    if len(squeezed := "".join(split_name(str(leaf.value)))) > 5 and squeezed in "".join(list_words(text)):
        return True  # mindmap for "mind map"
    return not stems.isdisjoint(_explain(leaf.parameter, str(leaf.value), tuple(map(str, choices))))


def _is_shortened(word: str, stems: frozenset[str]) -> bool:
    """Whether a word is the beginning of another, as prod is of production."""
    return len(word) > 3 and any(one.startswith(word) or (len(one) > 4 and word.startswith(one)) for one in stems)


def _explain(parameter: Parameter, value: str, choices: tuple[str, ...]) -> frozenset[str]:
    """What a description says of one choice alone, up to the next one."""
    others = "|".join(re.escape(one) for one in choices if one != value)
    match = re.search(
        rf"(?<!\w){re.escape(value)}(?!\w)['\"`]?\s*(?:[:=(]|\bis\b|\bmeans\b|\bfor\b|\bto\b|->|-)(.*?)(?:(?<!\w)(?:{others})(?!\w)|[.;\n)]|$)",
        parameter.description,
        re.DOTALL,
    )
    return list_content(match[1]) if match else frozenset()


CHOICE = Conversion("choice", _list_words, recognize=_recognize)
"""A choice in plain words."""
PHRASE = Conversion("phrase", lambda leaf: _look_up("phrases", leaf), lambda leaf: _look_up("choices", leaf))
"""A choice that a phrase of its own says: ``newest first`` for DESC."""
