"""Fitting a word classifier to a data set: logistic regressions over its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.decoding import Evidence, WordClassifier
from dualtune_mlx.decoding.copies import MIN_EXAMPLES
from dualtune_mlx.decoding.forms import SHARE, find_form
from dualtune_mlx.decoding.narrowing import find_optional
from dualtune_mlx.decoding.places import find_properties, is_free_string
from dualtune_mlx.decoding.spans import is_span
from dualtune_mlx.decoding.word_classifier import Array, Output, find_buckets, join_features
from dualtune_mlx.engine.lexical_match import find_due
from dualtune_mlx.errors import DataError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.tools import RESPOND, Message, Tool, ToolCall, Trajectory, find_called_tool

EPOCHS, BATCH, FEWEST_STEPS = 8, 64, 40
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 0.01
LEAST, MOST = 5, 1000
"""Calls of a tool in which an argument must be there, and not be there, to be learned; calls that are looked at."""
EVIDENCE = Evidence(weight=4.0, respond=0.0, sharpness=0.7)
"""How a fitted classifier joins BM25 and a selector that was trained on the same requests (measured: see the decision
"Words that were learned")."""
Parameters = dict[str, mx.array]
Loss = Callable[[mx.array, mx.array], mx.array]
"""Of logits and of targets, each of them (rows, outputs): one number."""


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
        DataError: when there are no requests, or one calls none of the tools.
    """
    known = [pair for trajectory in trajectories for pair in _known_requests(trajectory)]
    if not known:
        raise DataError("there are no requests to learn words from", expected="conversations that begin with one")
    embeddings = np.stack([embed(request) for request, _ in known])
    center, spread = embeddings.mean(0), embeddings.std(0) + 1e-6
    buckets = [find_buckets(request) for request, _ in known]
    data = _Requests(buckets, (embeddings - center) / spread, np.random.default_rng(seed))

    names = (*dict.fromkeys(tool.full_name for tool in tools), RESPOND.name)
    if strange := {call.full_name for _, call in known} - set(names):
        got, expected = (", ".join(listed) for listed in (sorted(strange), names))
        raise DataError("a call is of a tool that the words are not for", got=got, expected=expected)
    choices = np.array([names.index(call.full_name) for _, call in known])
    parts: list[tuple[list[Output], Array, Array]] = [
        ([(name,) for name in names], *data.regress(range(len(known)), np.eye(len(names))[choices], _softmax_loss))
    ]
    for tool in tools:
        rows = [row for row, (_, call) in enumerate(known) if call.full_name == tool.full_name][:MOST]
        outputs, targets = _argument_targets(tool, [known[row][1] for row in rows])
        if outputs:
            parts.append((outputs, *data.regress(rows, targets, _logistic_loss)))
    return WordClassifier(
        tuple(output for outputs, _, _ in parts for output in outputs),
        np.concatenate([weights for _, weights, _ in parts], 1),
        np.concatenate([bias for _, _, bias in parts]),
        center,
        spread,
        {tool.full_name: forms for tool in tools if (forms := _find_forms(tool, known))},
    )


def _known_requests(trajectory: Trajectory) -> Iterator[tuple[str, ToolCall]]:
    """The words of what is due before each first call, and the right call, with its server."""
    for decision in call_decisions(trajectory):
        due, is_open = find_due(decision.messages, decision.subtask)
        if is_open and due:
            call = decision.call
            server = "" if call.is_respond else find_called_tool(call, decision.tools).server
            yield due, replace(call, server=server)


def _argument_targets(tool: Tool, calls: Sequence[ToolCall]) -> tuple[list[Output], Array]:
    """The optional arguments of a tool that can be learned, and which calls have them: (calls, arguments)."""
    columns = {name: [float(name in call.arguments) for call in calls] for name in sorted(find_optional(tool))}
    learned = {name: there for name, there in columns.items() if LEAST <= sum(there) <= len(there) - LEAST}
    targets = np.array(list(learned.values()), np.float32).reshape(len(learned), len(calls)).T
    return [(tool.full_name, name) for name in learned], targets


def _find_forms(tool: Tool, known: Sequence[tuple[str, ToolCall]]) -> dict[str, str]:
    """The form of the values of each argument of a tool that is a string and copied from the request."""
    calls = [(request, call.arguments) for request, call in known if call.full_name == tool.full_name]
    forms = {}
    for name, schema in find_properties(tool).items():
        if is_free_string(schema):
            said = [(request, str(arguments[name])) for request, arguments in calls if name in arguments]
            copied = [value for request, value in said if is_span(value, [Message("user", request)])]
            if len(copied) >= max(MIN_EXAMPLES, SHARE * len(said)) and (form := find_form(copied)):
                forms[name] = form
    return forms


def _softmax_loss(logits: mx.array, targets: mx.array) -> mx.array:
    return nn.losses.cross_entropy(logits, targets).mean()


def _logistic_loss(logits: mx.array, targets: mx.array) -> mx.array:
    return nn.losses.binary_cross_entropy(logits, targets).mean()


@dataclass(frozen=True)
class _Requests:
    buckets: Sequence[Sequence[int]]
    embeddings: Array
    rng: np.random.Generator

    def regress(self, rows: Sequence[int], targets: Array, loss: Loss) -> tuple[Array, Array]:
        """The weights (features, outputs) and the bias that lose least on some requests (AdamW).

        Args:
            rows: which requests.
            targets: what is right for each of them: (rows, outputs).
            loss: what is lost.
        """
        width, outputs = self.embeddings.shape[1], targets.shape[1]
        steps = max(FEWEST_STEPS, EPOCHS * len(rows) // BATCH)
        optimizer = optim.AdamW(optim.cosine_decay(LEARNING_RATE, steps), weight_decay=WEIGHT_DECAY)
        weights = mx.zeros((len(join_features((), np.zeros(width, np.float32))), outputs))
        parameters: Parameters = {"weights": weights, "bias": mx.zeros((outputs,))}

        def lose(parameters: Parameters, x: mx.array, y: mx.array) -> mx.array:
            return loss(x @ parameters["weights"] + parameters["bias"], y)

        gradient = mx.grad(lose)
        for _ in range(steps):
            drawn = self.rng.integers(0, len(rows), min(BATCH, len(rows)))
            x = np.stack([join_features(self.buckets[rows[one]], self.embeddings[rows[one]]) for one in drawn])
            gradients = gradient(parameters, mx.array(x), mx.array(targets[drawn].astype(np.float32)))
            parameters = optimizer.apply_gradients(gradients, parameters)
            mx.eval(parameters, optimizer.state)
        return np.array(parameters["weights"]), np.array(parameters["bias"])
