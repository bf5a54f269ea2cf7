"""What the description of a tool says, in phrases that a request can use."""

from __future__ import annotations

import re

from dualtune_mlx.synthesis.phrasing.english import mend_articles
from dualtune_mlx.synthesis.phrasing.tables import families, word_set

SENTENCE_END = re.compile(r"(?<=[\w\])\"'.])[.!?:](?=\s|$)|\n\s*\n|\n\s*[-*#]|\bArgs:|\bParameters:|\bReturns:\n")
CLAUSE_END = re.compile(
    r"\s*(?:[,;(\[|\u2013\u2014]|\s-\s|\b(?:so that|including|using|via|which|that|if|when|without|whether|by default"
    r"|e\.g\.|such as|to help|based on|whose|for better"
    r"|with (?:an? )?(?:optional|specified|robust|special|detailed|proper|guaranteed))(?=\W))"
)
GENERIC = re.compile(
    r"\b(specific|specified|given|provided|existing|single|certain|particular|currently|current user's|available"
    r"|various|optional|appropriate|authenticated|corresponding|detailed|complete|full|entire|one or more"
    r"|one or multiple|multiple)\s+"
)
PURPOSE = re.compile(
    r"\b(?:Use this(?: tool)?|Useful|Use it|[Tt]his tool|[Tt]ool|Can be used|Allows you|Helps you|Lets you) "
    r"(?:to|for|that|which|can be used to|allows you to) (?=\w)"
)
LISTED = re.compile(
    r"\b(?:such as|including|includes?|like|ideal for|best for|useful for|for example|related to|e\.g\.,?|supports?"
    r"|[Rr]eturns? [^.:]{0,40}:) "
    r"((?:[a-z][\w-]*(?: [a-z][\w-]*){0,2}, ?)*(?:and |or )?[a-z][\w-]*(?: [a-z][\w-]*){0,2})"
)
"""Things that a description lists."""
MOST_WORDS = 9


def sentences(description: str) -> list[str]:
    """The first sentences of a description, without markup."""
    text = re.sub(r"[`*_]{1,3}(?=\S)|(?<=\S)[`*]{1,3}|<[^>]+>|https?://\S+", "", description[:1500])
    return [" ".join(one.split()) for one in SENTENCE_END.split(text) if one and len(one.split()) > 1][:6]


def verb_of(word: str) -> str:
    """The verb of a word that begins a sentence, in its plain form, if a family of actions knows it; else "".

    ``Returns``, ``Retrieving`` and ``return`` are the same.
    """
    lower = word.lower().strip(":,.")
    forms = [lower, lower.removesuffix("s"), lower.removesuffix("es"), re.sub("ies$", "y", lower)]
    forms += [lower.removesuffix("ing"), re.sub("ing$", "e", lower)]
    return next((form for form in forms if form in families()), "")


def clause(text: str, most: int = MOST_WORDS) -> str:
    """The text up to where a sentence goes into details, in words of no one object; "" where little is left."""
    short = GENERIC.sub("", CLAUSE_END.split(text.strip(), maxsplit=1)[0]).strip(" .:")
    words = re.sub(r" by (?:its |their |the )?(?:\w+ )?(?:ID|UID|id|uid|key|name|number)\b.*", "", short).split()[:most]
    while words and words[-1].lower() in {
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "for",
        "and",
        "or",
        "from",
        "by",
        "with",
        "on",
        "as",
        "at",
        "its",
        "into",
    }:
        words.pop()
    return mend_articles(" ".join(words))


def orders(description: str) -> list[str]:
    """Phrases of a description that say what to do: ``add a footnote after text``."""
    found = []
    for number, sentence in enumerate(sentences(description)):
        start = PURPOSE.search(sentence)
        said = sentence[start.end() :] if start else sentence if number == 0 else ""
        first, _, others = said.partition(" ")
        verb = verb_of(first)
        text = clause(others)
        if verb and text and not first.endswith(","):
            found.append(f"{verb} {text}")
    return found


def listed_things(description: str) -> list[str]:
    """Nouns that a description lists as what the tool is about: ``restaurants``, ``physical locations``."""
    text = " ".join(sentences(description))
    items = [item for match in LISTED.finditer(text) for item in re.split(r", ?(?:and |or )?| and | or ", match[1])]
    small = word_set("prepositions") | word_set("articles") | {"that", "and", "or", "other", "without", "most"}
    return [item for item in dict.fromkeys(items) if 3 < len(item) < 30 and small.isdisjoint(item.split())][:8]
