"""Lexical evidence: how well a tool's words match the request, joined with the model's probability of the tool.

    p(choice) ∝ p_model(choice)^sharpness · exp(weight · score(choice))       a tool
    p(choice) ∝ p_model(choice)^sharpness · exp(respond)                      ``respond``

The three numbers are fitted to choices whose right outcome is known, by maximum likelihood. So what comes out is one
probability again, and it is calibrated as far as those choices are like the later ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, inf, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualtune_mlx.errors import DataError

SHOWN = 8
"""How many tools are shown to the model at most, where a bundle does not say otherwise."""
PRIOR = 0.01
"""How much a fitted number is held to what it is without evidence: it stays finite where words decide everything."""
STEPS = 100
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """The weight of lexical scores beside a model's probabilities. The defaults leave the probabilities as they are."""

    weight: float = 0.0
    """How many nats a tool gains whose score is 1."""
    respond: float = 0.0
    """How many nats ``respond`` gains, which has no score."""
    sharpness: float = 1.0
    """The exponent of the model's probabilities: below 1 where the model is surer than it is right."""
    shown: int = SHOWN
    """How many tools, those that match best, are shown to the model."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evidence:
        """Read what ``to_dict`` wrote.

        Raises:
            TypeError: when a field is unknown, or is no number in its range.
        """
        evidence = cls(**value)
        for name, number in evidence.to_dict().items():
            if isinstance(number, bool) or not isinstance(number, int if name == "shown" else int | float):
                raise TypeError(f"evidence: {name} is no number: {number!r}")
            if not abs(number) < inf or (name == "shown" and number < 1):
                raise TypeError(f"evidence: {name} is out of range: {number!r}")
        return evidence

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name, as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class KnownChoice:
    """One choice whose right outcome is known; ``respond`` is the last thing that can be chosen."""

    probabilities: tuple[float, ...]
    """The model's, of each tool and of ``respond``."""
    scores: tuple[float, ...]
    """The lexical score of each tool."""
    right: int
    """The place of the right one."""


def join(probabilities: Sequence[float], gains: Sequence[float], sharpness: float = 1.0) -> list[float]:
    """The model's probabilities, each with a gain in nats, as probabilities again."""
    logs = [sharpness * log(p) + gain if p else -inf for p, gain in zip(probabilities, gains, strict=True)]
    whole = log_sum(logs)
    return [exp(one - whole) for one in logs]


def log_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of numbers that are given by their logarithms; of no numbers, minus infinity."""
    highest = max(logs, default=-inf)
    return highest if highest == -inf else highest + log(sum(exp(one - highest) for one in logs))


def fit_evidence(choices: Sequence[KnownChoice], shown: int = SHOWN) -> Evidence:
    """The evidence under which the right choices are most probable (a log-linear model, by Newton's method).

    Args:
        choices: choices among tools that the model was not trained on.
        shown: how many tools were shown for them at most.

    Raises:
        DataError: when there are no choices.
    """
    if not choices:
        raise DataError("there are no choices to fit lexical evidence to", expected="at least one")
    start = Evidence(shown=shown)
    center = np.array([start.weight, start.respond, start.sharpness])
    features = [_features(one) for one in choices]
    theta = center
    for _ in range(STEPS):
        gradient, curvature = _derivatives(features, choices, theta, center)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        value = _objective(features, choices, theta, center)
        while _objective(features, choices, theta + size * step, center) < value and size > 1e-6:
            size /= 2
        theta = theta + size * step
        if float(np.abs(size * step).max()) < 1e-9:
            break
    weight, respond, sharpness = theta.tolist()
    return replace(start, weight=weight, respond=respond, sharpness=sharpness)


def _features(choice: KnownChoice) -> Array:
    """(choices, 3): score, whether it is ``respond``, the model's log-probability."""
    scores, responds = [*choice.scores, 0.0], [*(0.0 for _ in choice.scores), 1.0]
    floor = np.finfo(np.float64).tiny  # a model's zero is one that was too small to write down
    logs = np.log(np.maximum(choice.probabilities, floor))
    return np.stack([np.array(scores), np.array(responds), logs], axis=1)


def _log_probabilities(features: Array, theta: Array) -> Array:
    logs: Array = features @ theta
    highest = logs.max()
    shifted: Array = logs - highest - np.log(np.exp(logs - highest).sum())
    return shifted


def _objective(features: Sequence[Array], choices: Sequence[KnownChoice], theta: Array, center: Array) -> float:
    right = (_log_probabilities(one, theta)[choice.right] for one, choice in zip(features, choices, strict=True))
    return float(sum(right)) - PRIOR / 2 * float(((theta - center) ** 2).sum())


def _derivatives(
    features: Sequence[Array], choices: Sequence[KnownChoice], theta: Array, center: Array
) -> tuple[Array, Array]:
    """The gradient of the objective, and minus its second derivatives."""
    gradient, curvature = -PRIOR * (theta - center), PRIOR * np.eye(len(theta))
    for one, choice in zip(features, choices, strict=True):
        shares = np.exp(_log_probabilities(one, theta))
        mean = shares @ one
        gradient = gradient + one[choice.right] - mean
        curvature = curvature + (one.T * shares) @ one - np.outer(mean, mean)
    return gradient, curvature
