"""Which tool a request's words point at: a linear classifier, learned from requests whose tool is known.

    p(tool) ∝ exp(W x + b)

x holds the words of the request, pieces of them, and the mean of its tokens' embeddings, so that a word that was never
seen still lies near others. It costs no forward pass of the model. Joulin et al., Bag of Tricks for Efficient Text
Classification, 2016, classify texts so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dualtune_mlx.tools.lexical import request_words, split_pieces

EMBEDDING_SCALE = 0.05
"""What a standard deviation of an embedding counts beside a word."""
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RequestFeatures:
    """What a request is described by, as numbers."""

    words: tuple[str, ...]
    """The words and pieces that count, each with a place."""
    center: Array
    """The mean of the embeddings: (width,)."""
    spread: Array
    """Their standard deviation: (width,)."""

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def find(self, request: str) -> list[int]:
        """The places of the words and pieces of a request."""
        return [self._places[word] for word in words_and_pieces(request) if word in self._places]

    def join(self, places: Sequence[int], embedding: Array) -> Array:
        """The numbers of one request: (len(words) + width,).

        Args:
            places: what ``find`` gives.
            embedding: the mean of the embeddings of the request's tokens: (width,).
        """
        said = np.zeros(len(self.words), np.float32)
        said[places] = max(len(places), 1) ** -0.5
        return np.concatenate([said, EMBEDDING_SCALE * (embedding - self.center) / self.spread])


@dataclass(frozen=True, eq=False)
class WordClassifier:
    """A linear classifier of requests.

    Raises:
        ValueError: when the parts do not fit each other, or a number is not finite.
    """

    choices: tuple[str, ...]
    """What is chosen among: full names of tools, and ``respond``."""
    features: RequestFeatures
    """What a request is described by."""
    weights: Array
    """(features, choices)."""
    bias: Array
    """(choices,)."""

    def __post_init__(self) -> None:
        features, numbers = self.features, (self.features.center, self.features.spread, self.weights, self.bias)
        width, choices = len(features.center), len(self.choices)
        shapes = [(width,), (width,), (len(features.words) + width, choices), (choices,)]
        if [one.shape for one in numbers] != shapes or not all(np.isfinite(one).all() for one in numbers):
            raise ValueError(f"a word classifier's parts do not fit: {[one.shape for one in numbers]}, not {shapes}")

    def log_probabilities(self, request: str, embedding: Array, choices: Sequence[str]) -> list[float]:
        """The logarithm of the probability of each of some choices, among these.

        Raises:
            KeyError: when one is unknown.
        """
        places = [self._places[choice] for choice in choices]
        described = self.features.join(self.features.find(request), embedding)
        logits = (described @ self.weights + self.bias)[places].astype(np.float64)
        highest = logits.max()
        logs: list[float] = (logits - highest - np.log(np.exp(logits - highest).sum())).tolist()
        return logs

    def knows(self, choices: Sequence[str]) -> bool:
        """Whether all of these are choices of the classifier."""
        return all(choice in self._places for choice in choices)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {choice: place for place, choice in enumerate(self.choices)}


def words_and_pieces(request: str) -> set[str]:
    """The words of a request and the pieces of them; a piece has a mark before it."""
    words = request_words(request)
    return {*words, *(f"*{piece}" for piece in split_pieces(words))}
