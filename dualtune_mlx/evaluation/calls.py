"""The suite ``calls``: every decision of every trajectory against what was really done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from dualtune_mlx.data.decisions import Decision, decisions
from dualtune_mlx.engine import DualTune
from dualtune_mlx.engine.dualtune import MAX_TOKENS
from dualtune_mlx.errors import DecodingError, ToolError
from dualtune_mlx.tools import ToolCall, Trajectory, tool_called

METRICS = ("server", "tool", "call")
Z_95 = 1.96


@dataclass(frozen=True)
class Scored:
    """One decision: what was asked, what is right, what was predicted, and why its arguments were not written."""

    request: str
    gold: ToolCall
    predicted: ToolCall
    failure: str = ""

    def right(self, metric: str) -> bool:
        gold, predicted = self.gold, self.predicted
        if predicted.server != gold.server:
            return False
        if metric == "server":
            return True
        if predicted.name != gold.name:
            return False
        return metric == "tool" or (not self.failure and same_json(predicted.arguments, gold.arguments))


@dataclass(frozen=True)
class Report:
    """All decisions of an evaluation, and the accuracies over them."""

    scored: tuple[Scored, ...]

    def accuracy(self, metric: str) -> float:
        return sum(item.right(metric) for item in self.scored) / len(self.scored)

    def to_dict(self) -> dict[str, Any]:
        """Accuracies, their 95% intervals, and every example."""
        n = len(self.scored)
        counts = {metric: sum(item.right(metric) for item in self.scored) for metric in METRICS}
        return {
            "n": n,
            **{metric: count / n for metric, count in counts.items()},
            "intervals": {metric: wilson(count, n) for metric, count in counts.items()},
            "examples": [_example(item) for item in self.scored],
        }


def evaluate_calls(
    dualtune: DualTune,
    trajectories: Sequence[Trajectory],
    max_tokens: int = MAX_TOKENS,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Ask the engine at every decision of the trajectories, with everything before it as context.

    The arguments of a wrong tool are not written: the call is wrong already. Arguments that are not complete
    after ``max_tokens`` tokens count as wrong, and so do those that a tool's schema does not allow to be written.

    Raises:
        DataError: when a trajectory's own call names no visible tool, or several.
    """
    asked = [decision for trajectory in trajectories for decision in decisions(trajectory)]
    scored = []
    for done, decision in enumerate(asked, 1):
        scored.append(_score(dualtune, decision, max_tokens))
        report(done, len(asked))
    return Report(tuple(scored))


def _score(dualtune: DualTune, decision: Decision, max_tokens: int) -> Scored:
    request = next(message.content for message in reversed(decision.messages) if message.role == "user")
    gold = (
        decision.call
        if decision.call.is_respond
        else replace(decision.call, server=tool_called(decision.call, decision.tools).server)
    )
    ((tool, confidence),) = dualtune.select(decision.messages, decision.tools, top_k=1, subtask=decision.subtask)
    scored = Scored(request, gold, ToolCall(tool.name, {}, tool.server, confidence))
    if not scored.right("tool"):
        return replace(scored, failure="another tool: its arguments were not written")
    if decision.call.is_respond:
        return scored
    try:
        arguments = dualtune.arguments(
            decision.messages, tool, decision.tools, subtask=decision.subtask, max_tokens=max_tokens
        )
    except (DecodingError, ToolError) as error:
        return replace(scored, failure=error.what)
    return replace(scored, predicted=replace(scored.predicted, arguments=arguments))


def same_json(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; 3 and 3.0 are, true and 1 are not, nor are different key orders different."""
    return json.dumps(_canonical(left), sort_keys=True) == json.dumps(_canonical(right), sort_keys=True)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


def wilson(successes: int, n: int) -> list[float]:
    """The 95% confidence interval of a proportion (Wilson 1927)."""
    p, z2 = successes / n, Z_95**2
    centre, spread = p + z2 / (2 * n), Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return [max(0.0, (centre - spread) / (1 + z2 / n)), min(1.0, (centre + spread) / (1 + z2 / n))]


def _example(item: Scored) -> dict[str, Any]:
    def shown(call: ToolCall) -> dict[str, Any]:
        return {"server": call.server, "name": call.name, "arguments": dict(call.arguments)}

    predicted = {**shown(item.predicted), "confidence": item.predicted.confidence}
    failure = {"failure": item.failure} if item.failure else {}
    return {"request": item.request, "gold": shown(item.gold), "predicted": predicted, **failure}
