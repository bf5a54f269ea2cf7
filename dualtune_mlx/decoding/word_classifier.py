"""What a request's words point at: linear classifiers, learned from requests whose call is known.

    p(tool) ∝ exp(W x + b)
    p(an optional argument is there) = 1 / (1 + exp(-(W x + b)))

x holds the words of the request, pieces of them, pairs of them, the forms of values (a number, a path, quotes), each
in one of so many buckets by its hash, and the mean of its tokens' embeddings, so that a word that was never seen still
lies near others. It costs no forward pass of the model. Joulin et al., Bag of Tricks for Efficient Text
Classification, 2016, classify texts so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from zlib import crc32

import numpy as np
import regex  # type: ignore[import-untyped]
from numpy.typing import NDArray

from dualtune_mlx.tools.lexical import request_words, split_pieces

BUCKETS = 2**13
LONGEST = 4000
"""Characters of a request that are looked at."""
EMBEDDING_SCALE = 0.05
"""What a standard deviation of an embedding counts beside a word."""
FORMS: Mapping[str, str] = {
    "address": r"https?://",
    "path": r"(?<!\S)[\w.~]*/[\w./-]+",
    "file": r"\w\.\w{2,4}\b",
    "number": r"\b\d+\b",
    "date": r"\d{4}-\d\d|\d:\d\d",
    "mail": r"\w@\w",
    "quoted": r"[\"\p{Pi}'`][^\"\p{Pf}'`]{2,}[\"\p{Pf}'`]",
    "code": r"[{}\[\]]|=>|\(\)",
    "option": r"(?<!\S)--?\w",
    "name": r"(?<=[\p{L},;] )\p{Lu}\p{Ll}+",
    "identifier": r"\w[_-]\w",
    "list": r",.*,|, .* and ",
}
"""What kinds of values a request holds, each by a pattern."""
_FORMS = {name: regex.compile(pattern) for name, pattern in FORMS.items()}
Array = NDArray[np.float32]
Output = tuple[str, ...]
"""A tool's full name, or ``respond``; with an argument's name: that this argument is there."""


def find_buckets(request: str) -> list[int]:
    """The buckets of a request's words, pieces, pairs and forms; of a long one, of its beginning."""
    request = request[:LONGEST]
    words = request_words(request)
    forms = [f"~{name}{min(count, 2)}" for name, one in _FORMS.items() if (count := len(one.findall(request)))]
    pieces = (f"*{piece}" for piece in split_pieces(words))
    pairs = (f"{one} {other}" for one, other in pairwise(words))
    return sorted({crc32(feature.encode()) % BUCKETS for feature in (*words, *pieces, *pairs, *forms)})


@dataclass(frozen=True, eq=False)
class WordClassifier:
    """Linear classifiers of requests, with one feature vector for all of them.

    Raises:
        ValueError: when the parts do not fit each other, or a number is not finite.
    """

    outputs: tuple[Output, ...]
    """What is told of a request."""
    weights: Array
    """(BUCKETS + width, outputs)."""
    bias: Array
    """(outputs,)."""
    center: Array
    """The mean of the requests' embeddings: (width,)."""
    spread: Array
    """Their standard deviation: (width,)."""
    forms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The form of the values of copied arguments, by tool and argument: see ``forms``."""

    def __post_init__(self) -> None:
        width, count = len(self.center), len(self.outputs)
        numbers = (self.weights, self.bias, self.center, self.spread)
        expected = [(BUCKETS + width, count), (count,), (width,), (width,)]
        if [one.shape for one in numbers] != expected or not all(np.isfinite(one).all() for one in numbers):
            raise ValueError(f"a word classifier's parts do not fit: {[one.shape for one in numbers]}, not {expected}")

    def features(self, request: str, embedding: Array) -> Array:
        """A request as numbers: (BUCKETS + width,).

        Args:
            request: the request.
            embedding: the mean of its tokens' embeddings: (width,).
        """
        return join_features(find_buckets(request), (embedding - self.center) / self.spread)

    def read(self, request: str, embedding: Array) -> WordReading:
        """What a request's words say; the arguments are those of ``features``."""
        logits = self.features(request, embedding) @ self.weights + self.bias
        return WordReading(dict(zip(self.outputs, logits.tolist(), strict=True)), self.forms)

    def knows(self, choices: Sequence[str]) -> bool:
        """Whether all of these tools are known, by their full names."""
        return all((choice,) in self._known for choice in choices)

    @cached_property
    def _known(self) -> frozenset[Output]:
        return frozenset(self.outputs)


def join_features(buckets: Sequence[int], embedding: Array) -> Array:
    """The buckets of a request and its standardised embedding, as one vector."""
    said = np.zeros(BUCKETS, np.float32)
    said[list(buckets)] = max(len(buckets), 1) ** -0.5
    return np.concatenate([said, EMBEDDING_SCALE * embedding])


@dataclass(frozen=True)
class WordReading:
    """What the words of one request say."""

    logits: Mapping[Output, float] = field(default_factory=dict)
    """By output; empty where nothing was learned."""
    forms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """As in the classifier."""

    def choose(self, choices: Sequence[str]) -> list[float]:
        """The logarithm of the probability of each of some tools, by full name, among these.

        Raises:
            KeyError: when one is unknown.
        """
        logits = np.array([self.logits[choice,] for choice in choices])
        highest = logits.max()
        logs: list[float] = (logits - highest - np.log(np.exp(logits - highest).sum())).tolist()
        return logs

    def knows(self, tool: str) -> bool:
        """Whether anything was learned of a tool."""
        return (tool,) in self.logits

    def arguments(self, tool: str) -> dict[str, float]:
        """The logit of each optional argument of a tool that it is there, where that was learned."""
        return {key[1]: logit for key, logit in self.logits.items() if len(key) == 2 and key[0] == tool}
