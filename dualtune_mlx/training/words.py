"""Fitting a word classifier to a data set: a linear softmax regression over its requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.decoding import Evidence, RequestFeatures, WordClassifier
from dualtune_mlx.decoding.word_classifier import Array, words_and_pieces
from dualtune_mlx.engine.lexical_match import find_due
from dualtune_mlx.errors import DataError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.tools import RESPOND, Tool, Trajectory, find_called_tool

EPOCHS, BATCH = 8, 64
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 0.01
LEAST_COUNT = 2
"""How many requests a word or piece has to be in."""
Parameters = dict[str, mx.array]
Draw = Callable[[list[int]], tuple[mx.array, mx.array]]
"""Gives the numbers of some requests, (rows, features), and their right choices, (rows,)."""

EVIDENCE = Evidence(weight=4.0, respond=0.0, sharpness=0.4)
"""How a fitted classifier joins BM25 and a selector that was trained on the same requests (measured: see the decision
"words that are learned")."""


def fit_bundle_words(bundle: Bundle, base: BaseModel, trajectories: Sequence[Trajectory]) -> WordClassifier:
    """Fit a word classifier for a bundle's tools, and keep it in the bundle.

    Raises:
        DataError: as ``fit_words``.
    """
    classifier = fit_words(trajectories, bundle.tools, base.embed)
    bundle.set_words(classifier, EVIDENCE)
    return classifier


def fit_words(
    trajectories: Sequence[Trajectory], tools: Sequence[Tool], embed: Callable[[str], Array], seed: int = 0
) -> WordClassifier:
    """Fit a word classifier.

    Args:
        trajectories: conversations with the right calls. The first call for a request, or for a subtask, counts.
        tools: all tools; the classifier chooses among these and ``respond``.
        embed: gives the mean of the embeddings of a text's tokens.
        seed: of the order of the requests.

    Raises:
        DataError: when there are no requests.
    """
    requests = [pair for trajectory in trajectories for pair in _known_requests(trajectory)]
    if not requests:
        raise DataError(
            "there are no requests to fit a word classifier to", expected="conversations that begin with one"
        )
    choices = (*dict.fromkeys(tool.full_name for tool in tools), RESPOND.name)
    embeddings = np.stack([embed(request) for request, _ in requests])
    words = _frequent(request for request, _ in requests)
    features = RequestFeatures(words, embeddings.mean(0), embeddings.std(0) + 1e-6)
    found = [features.find(request) for request, _ in requests]
    right = mx.array([choices.index(choice) for _, choice in requests])

    def draw(rows: list[int]) -> tuple[mx.array, mx.array]:
        return mx.array(np.stack([features.join(found[row], embeddings[row]) for row in rows])), right[mx.array(rows)]

    weights, bias = _regress(draw, len(requests), len(words) + embeddings.shape[1], len(choices), seed)
    return WordClassifier(choices, features, weights, bias)


def _known_requests(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """The words of what is due before each first call, and the choice that is right."""
    for decision in call_decisions(trajectory):
        due, is_open = find_due(decision.messages, decision.subtask)
        if is_open and due:
            called = None if decision.call.is_respond else find_called_tool(decision.call, decision.tools)
            yield due, called.full_name if called else RESPOND.name


def _frequent(requests: Iterator[str]) -> tuple[str, ...]:
    counts = Counter(word for request in requests for word in sorted(words_and_pieces(request)))
    return tuple(word for word, count in counts.items() if count >= LEAST_COUNT)


def _regress(draw: Draw, requests: int, features: int, choices: int, seed: int) -> tuple[Array, Array]:
    """The weights (features, choices) and the bias under which the right choices are probable (AdamW)."""
    rng, steps = np.random.default_rng(seed), max(1, EPOCHS * requests // BATCH)
    optimizer = optim.AdamW(optim.cosine_decay(LEARNING_RATE, steps), weight_decay=WEIGHT_DECAY)
    parameters: Parameters = {"weights": mx.zeros((features, choices)), "bias": mx.zeros((choices,))}

    def loss(parameters: Parameters, x: mx.array, y: mx.array) -> mx.array:
        return nn.losses.cross_entropy(x @ parameters["weights"] + parameters["bias"], y).mean()

    gradient = mx.grad(loss)
    for _ in range(steps):
        batch = draw(rng.integers(0, requests, min(BATCH, requests)).tolist())
        parameters = optimizer.apply_gradients(gradient(parameters, *batch), parameters)
        mx.eval(parameters, optimizer.state)
    return np.array(parameters["weights"]), np.array(parameters["bias"])
