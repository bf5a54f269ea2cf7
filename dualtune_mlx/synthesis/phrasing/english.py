"""Forms of English words: plurals, participles, articles."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.phrasing.tables import word_set, word_table

VOWEL = re.compile(r"(?!us[ea]|uni|one\b|once|eu|U[RI][LDI])[aeiouAEIOU]|[FHLMNRSX](?=[A-Z])|hour|honest")
"""What *an* stands before."""
SINGULARS = {plural: singular for singular, plural in word_table("plurals").items()}


def pluralize(noun: str) -> str:
    """The plural of a noun; that of its last word where it has several."""
    *first, last = noun.split(" ")
    return " ".join([*first, _pluralize(last)])


def _pluralize(word: str) -> str:
    lower = word.lower()
    if lower in word_set("no_plural") or is_plural(lower):
        return word
    if lower in word_table("plurals"):
        return word_table("plurals")[lower]
    if re.search(r"[^aeiou]y$", lower):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", lower) else "s")


def is_plural(word: str) -> bool:
    """Whether a word looks like a plural."""
    return word in SINGULARS or (word.endswith("s") and not word.endswith(("ss", "us", "is", "news", "analytics")))


def singularize(word: str) -> str:
    """The singular of a word that looks like a plural; other words as they are."""
    lower = word.lower()
    if lower in SINGULARS:
        return SINGULARS[lower]
    if lower in word_set("no_plural") or not is_plural(lower):
        return word
    if lower.endswith("ies") and len(lower) > 4:
        return word[:-3] + "y"
    return word[:-2] if re.search(r"(ss|x|ch|sh)es$", lower) else word[:-1]


def participle(verb: str) -> str:
    """The past participle of a verb, of the first word where there are several: ``looked up``."""
    first, *others = verb.split(" ")
    if first in word_table("participles"):
        done = word_table("participles")[first]
    elif first.endswith("e"):
        done = first + "d"
    elif re.search(r"[^aeiou]y$", first):
        done = first[:-1] + "ied"
    else:
        done = first + "ed"
    return " ".join([done, *(word for word in others if word != "me")])


def with_article(noun: str) -> str:
    """The noun behind *a* or *an*; without one where it is a plural or has none."""
    last = noun.rpartition(" ")[2].lower()
    if is_plural(last) or last in word_set("no_plural"):
        return noun
    return f"{'an' if VOWEL.match(noun) else 'a'} {noun}"


def mend_articles(text: str) -> str:
    """The text with *a* and *an* as the words behind them need it."""
    return re.sub(r"\b([Aa])n? (?=[A-Za-z])", lambda at: at[1] + ("n " if VOWEL.match(text, at.end()) else " "), text)


def capitalize(text: str) -> str:
    """The text with a capital letter; as it is where its first word is none of ours (``getName``, ``a.txt``)."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if re.fullmatch(r"[a-z][a-z']*[,;:.!]?", first) else text
