"""Booleans, which are said by what they switch: ``including archived ones``, ``without comments``."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.conversions.choices import NEGATIONS
from dualtune_mlx.synthesis.conversions.conversion import Conversion, Leaf
from dualtune_mlx.synthesis.conversions.tables import read_set
from dualtune_mlx.synthesis.conversions.texts import list_content, list_stems, list_words, split_name, stem
from dualtune_mlx.tools.parameters import Parameter

WITH = read_set("with")
WITHOUT = read_set("without")
BEFORE = read_set("before")
AFTER = read_set("after")
"""First and last words of a name that say nothing of what it switches."""
QUALITIES = read_set("qualities")
VERBS = read_set("verbs")
BEFORE_NOUNS = read_set("before nouns")
"""Words of a name that tell how it is said: "private", "force it", "if empty"."""
_DESCRIBED = re.compile(
    r"(?:^|\. )(?:Whether (?:or not )?to|(?:If|When) (?:set to )?[Tt]rue,?(?: to)?|Set to true to|Set true to|True to) "
    r"([a-z][\w' -]{4,45}?)(?= ?[.,;:(]|$| instead| in addition| when| if| from| by default| or not)"
)
"""What a description says that true does."""


def _describe(parameter: Parameter) -> str:
    match = _DESCRIBED.search(parameter.description)
    phrase = match[1].removeprefix("also ") if match else ""
    return phrase if phrase.split(" ")[0] in VERBS | WITH | WITHOUT and len(phrase.split()) < 7 else ""


def _read_name(parameter: Parameter) -> tuple[list[str], str]:
    """The words of what a boolean switches, and the verb before them: ``archived`` and ``include``."""
    words = split_name(parameter.path.rpartition(".")[2])
    while len(words) > 1 and words[0] in BEFORE:
        words = words[1:]
    while len(words) > 1 and words[-1] in AFTER:
        words = words[:-1]
    return (words[1:], words[0]) if len(words) > 1 and words[0] in WITH | WITHOUT else (words, "")


def _is_quality(words: list[str]) -> bool:
    return words[-1] in QUALITIES or words[-1].endswith(("ed", "able", "ible", "ous", "ly"))


def _list_words(leaf: Leaf) -> list[str]:
    if not isinstance(leaf.value, bool):
        return []
    if phrase := _describe(leaf.parameter):
        return [phrase] if leaf.value else [f"don't {phrase}", f"do not {phrase}"]
    words, verb = _read_name(leaf.parameter)
    what, wanted = " ".join(words), leaf.value != (verb in WITHOUT)
    if leaf.parameter.path.lower().endswith("only"):
        return [f"only {what}", f"{what} only"] if wanted else [f"not only {what}"]
    if verb:
        what = f"{what} ones" if _is_quality(words) else what
        return [f"including {what}", f"with {what}"] if wanted else [f"without {what}", f"no {what}"]
    if "can" in words[1:]:
        return [what] if wanted else [what.replace(" can", " can't")]
    if words[:1] and words[0] in VERBS:
        return [what] if wanted else [f"don't {what}", f"do not {what}"]
    if what == "on":
        return ["switched on"] if wanted else ["switched off"]
    if words and (words[0] in BEFORE_NOUNS or _is_quality(words)):
        made = [f"make it {what}"] if what in QUALITIES else []
        return [what, *made] if wanted else [f"not {what}"]
    return [f"with {what}"] if wanted else [f"without {what}", f"no {what}"]


def _recognize(leaf: Leaf, text: str) -> bool:
    """What is switched is named, or described; what is not wanted stands beside a negation."""
    value = {"true": True, "false": False}.get(leaf.value) if isinstance(leaf.value, str) else leaf.value
    if not isinstance(value, bool):
        return False
    words, verb = _read_name(leaf.parameter)
    if value == (verb in WITHOUT):
        return not NEGATIONS.isdisjoint(list_words(text))
    return not list_stems(text).isdisjoint({*map(stem, words), *list_content(leaf.parameter.description)})


SWITCH = Conversion("switch", _list_words, recognize=_recognize)
"""A boolean, by the name of its parameter."""
