"""Fitting what tells that a request says an optional argument, to requests for many different tools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualtune_mlx.decoding.narrowing import find_optional
from dualtune_mlx.decoding.said import said_features
from dualtune_mlx.start.domain import Domain

PRIOR = 1e-3
STEPS = 50


def fit_said(domains: Sequence[Domain]) -> tuple[dict[str, float], float]:
    """The weights of ``decoding.said``, by a logistic regression, and the logit of the usual share."""
    rows, there = [], []
    for domain in domains:
        tools = {tool.name: tool for tool in domain.tools}
        for request in domain.requests:
            if request.tool and request.arguments is not None:
                tool = tools[request.tool]
                for name in sorted(find_optional(tool)):
                    rows.append(said_features(request.text, tool, name))
                    there.append(name in request.arguments)
    x, y = np.array([list(row.values()) for row in rows]), np.array(there, float)
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (p - y) / len(y) + PRIOR * weights
        curvature = (x.T * (p * (1 - p))) @ x / len(y) + PRIOR * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, gradient)
    return dict(zip(rows[0], weights.tolist(), strict=True)), float(np.log(y.mean() / (1 - y.mean())))
