"""How well tools match a request by their words: BM25, as search engines rank documents.

A tool is a document: the words of its server, its name, its description, and its parameters with their descriptions
and enum values. Names are split (``listPullRequests``, ``list-pull-requests``), and words are reduced to their stems.

Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from math import log

import regex  # type: ignore[import-untyped]
from snowballstemmer import stemmer

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools.parameters import list_parameters
from dualtune_mlx.tools.types import Tool

SATURATION = 3.0
"""BM25's k1: how much a second occurrence of a word adds."""
LONGEST_WORD = 40
"""Characters of a word that count: what is longer is no word, but data."""
_FUNCTION_WORDS = """
a an and are as at be but by can could do does for from had has have how i if in into is it its let me my no not of on
or our please should so some that the their them then there these they this those to us was we were what when where
which who why will with would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that say nothing of what a tool does. Among few tools they would count as rare."""
PIECE, PIECE_WEIGHT = 4, 0.1
"""Letters of a piece of a word, and what it counts beside a word."""
_VALUE = regex.compile(r"\w\.\w|[/\\@]")
_WORD = regex.compile(r"\p{Han}|\p{Lu}+s?(?!\p{Ll})|\p{Lu}?[\p{Ll}\p{M}]+|\p{Lo}+")
_stem_word = lru_cache(maxsize=65536)(stemmer("english").stemWord)


def lexical_scores(request: str, tools: Sequence[Tool]) -> list[float]:
    """How well each tool matches a request: 0 for not at all, towards 1 for the best one.

    A score is the tool's BM25 over one more than the best tool's. So the best score is near 1 where several rare words
    match, and low where hardly any does, among 5 tools as among 500. File names, paths and addresses in the request do
    not count: they are values. Pieces of words count a little, so that misspelt and joined words are found.
    """
    documents = [_words_and_pieces(tool.server, tool.name, tool.description, _to_json(tool)) for tool in tools]
    asked = request_words(request)
    mean = sum(words.total() for words, _ in documents) / max(len(tools), 1)
    lengths = [words.total() / (mean or 1) for words, _ in documents]
    by_words = _bm25(set(asked), [words for words, _ in documents], lengths)
    by_pieces = _bm25(set(split_pieces(asked)), [pieces for _, pieces in documents], lengths)
    matches = [one + PIECE_WEIGHT * other for one, other in zip(by_words, by_pieces, strict=True)]
    best = max(matches, default=0.0)
    return [match / (1 + best) for match in matches]


def best_places(scores: Sequence[float], count: int) -> list[int]:
    """The places of the ``count`` highest scores, in their order. Of equal scores the first ones are taken."""
    ranked = sorted(range(len(scores)), key=lambda place: -scores[place])
    return sorted(ranked[:count])


def split_words(text: str) -> list[str]:
    """The stems of a text's words, without numbers and without words that say nothing of what a tool does."""
    words = (word[:LONGEST_WORD].lower() for word in _WORD.findall(text))
    return [_stem_word(word) for word in words if word not in FUNCTION_WORDS]


def request_words(request: str) -> list[str]:
    """The words of a request, without file names, paths and addresses: those are values."""
    return split_words(" ".join(one for one in request.split() if not _VALUE.search(one)))


def split_pieces(words: Sequence[str]) -> list[str]:
    """The pieces of some words; a beginning and an end are other letters than those inside."""
    marked = [f"^{word}$" for word in words]
    return [word[start : start + PIECE] for word in marked for start in range(len(word) - PIECE + 1)]


def _bm25(asked: Collection[str], documents: Sequence[Counter[str]], lengths: Sequence[float]) -> list[float]:
    """BM25 of each document; ``lengths`` are relative to the mean."""
    holding = {word: sum(word in one for one in documents) for word in asked}
    rarity = {word: log(1 + (len(documents) - n + 0.5) / (n + 0.5)) for word, n in holding.items() if n}
    return [
        sum(rarity[word] * _saturate(document[word], length) for word in rarity if word in document)
        for document, length in zip(documents, lengths, strict=True)
    ]


def _saturate(count: int, relative_length: float) -> float:
    """What ``count`` occurrences of a word weigh: less and less each, and less in a longer document."""
    return count * (SATURATION + 1) / (count + SATURATION * relative_length)


def _to_json(tool: Tool) -> str:
    return json.dumps(dict(tool.parameters))


@lru_cache(maxsize=4096)  # a tool is looked at with every request
def _words_and_pieces(server: str, name: str, description: str, schema: str) -> tuple[Counter[str], Counter[str]]:
    texts = (server, name, description, *_parameter_texts(name, json.loads(schema)))
    words = [word for text in texts for word in split_words(text)]
    return Counter(words), Counter(split_pieces(words))


def _parameter_texts(name: str, schema: Mapping[str, object]) -> Iterator[str]:
    """The names, descriptions and enum values of a tool's parameters."""
    try:
        parameters = list_parameters(Tool(name, "", schema))
    except ToolError:  # a schema that is none is refused where arguments are written; the tool may still be found
        return
    for parameter in parameters:
        yield parameter.path
        yield parameter.description
        for one in parameter.alternatives:
            yield from (value for value in one.get("enum", ()) if isinstance(value, str))
