"""The suite ``calls``: every decision of every trajectory against the call that was really made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from dualtune_mlx.data.decisions import Decision, call_decisions
from dualtune_mlx.engine import DualTune
from dualtune_mlx.engine.dualtune import MAX_TOKENS
from dualtune_mlx.errors import ContextError, DataError, DecodingError, ToolError, count_of, inside
from dualtune_mlx.evaluation.unwritable import explain_gold
from dualtune_mlx.tools import ToolCall, Trajectory, find_called_tool

METRICS = ("server", "tool", "call")
"""Right server; right server and tool; right server, tool and arguments."""
ANOTHER_TOOL = "another tool: its arguments were not written"
"""The failure of a call whose tool is wrong."""
Z_95 = 1.96


@dataclass(frozen=True)
class ScoredCall:
    """The prediction for one decision, beside the right call."""

    request: str
    """The user's last message."""
    gold: ToolCall
    predicted: ToolCall
    failure: str = ""
    """Why no tool was chosen or no arguments were written; empty where they were."""
    unwritable: str = ""
    """Why the engine could never write the right arguments; empty where it could."""

    def is_right(self, metric: str) -> bool:
        """Whether the prediction is right by one of the ``METRICS``."""
        gold, predicted = self.gold, self.predicted
        if predicted.abstained or predicted.server != gold.server:
            return False
        if metric == "server":
            return True
        if predicted.name != gold.name:
            return False
        return metric == "tool" or (not self.failure and same_json(predicted.arguments, gold.arguments))

    def to_dict(self) -> dict[str, Any]:
        """The call as an example in a report: ``request``, ``gold``, ``predicted``, and, where there is one,
        ``failure`` and ``unwritable``."""
        predicted = {**_call_to_dict(self.predicted), "confidence": self.predicted.confidence}
        reasons = {"failure": self.failure, "unwritable": self.unwritable}
        given = {name: reason for name, reason in reasons.items() if reason}
        return {"request": self.request, "gold": _call_to_dict(self.gold), "predicted": predicted, **given}


@dataclass(frozen=True)
class Report:
    """All scored calls of an evaluation, and the accuracies over them."""

    calls: tuple[ScoredCall, ...]

    def accuracy(self, metric: str) -> float:
        """The share of calls that are right by this metric."""
        return self._count_right(metric) / len(self.calls)

    def to_dict(self) -> dict[str, Any]:
        """The number of calls (``n``), accuracies by metric, their 95% intervals, how many of the right calls could
        never be written (``unwritable``), and every example."""
        n = len(self.calls)
        counts = {metric: self._count_right(metric) for metric in METRICS}
        return {
            "n": n,
            **{metric: count / n for metric, count in counts.items()},
            "intervals": {metric: wilson_interval(count, n) for metric, count in counts.items()},
            "unwritable": sum(bool(call.unwritable) for call in self.calls),
            "examples": [call.to_dict() for call in self.calls],
        }

    def _count_right(self, metric: str) -> int:
        return sum(call.is_right(metric) for call in self.calls)


def evaluate_calls(
    dualtune: DualTune,
    trajectories: Sequence[Trajectory],
    max_tokens: int = MAX_TOKENS,
    report: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Ask the engine for every decision of the trajectories, with all messages before it as context.

    Where the tool is wrong, no arguments are written: the call is wrong already. Arguments also count as wrong when
    they are not complete after ``max_tokens`` tokens, and when the tool's schema cannot be decoded. Of a conversation
    that is longer than the model's context all is wrong.

    Args:
        dualtune: the engine.
        trajectories: the conversations; their tools are the visible ones.
        max_tokens: the longest arguments, in tokens.
        report: called after each decision with the number of decisions done and of all. It may raise to stop.

    Raises:
        DataError: when a trajectory's own call names no visible tool, or several, or there is no decision to ask for.
    """
    decisions = [(one.name, decision) for one in trajectories for decision in call_decisions(one)]
    if not decisions:
        raise DataError(
            "the data holds no decision to ask for",
            got=count_of(len(trajectories), "conversation"),
            expected="assistant messages, and not of weight 0",
        )
    calls = []
    for done, (name, decision) in enumerate(decisions, 1):
        with inside(name):
            calls.append(_score_decision(dualtune, decision, max_tokens))
        report(done, len(decisions))
    return Report(tuple(calls))


def _score_decision(dualtune: DualTune, decision: Decision, max_tokens: int) -> ScoredCall:
    request = next(message.content for message in reversed(decision.messages) if message.role == "user")
    gold, unwritable = decision.call, ""
    if not gold.is_respond:
        right = find_called_tool(gold, decision.tools)
        gold, unwritable = replace(gold, server=right.server), explain_gold(dualtune, decision, right)
    call = ScoredCall(request, gold, ToolCall(""), unwritable=unwritable)
    try:
        ((tool, confidence),) = dualtune.select(decision.messages, decision.tools, top_k=1, subtask=decision.subtask)
        call = replace(call, predicted=ToolCall(tool.name, {}, tool.server, confidence))
        if not call.is_right("tool"):
            return replace(call, failure=ANOTHER_TOOL)
        if gold.is_respond:
            return call
        arguments = dualtune.arguments(
            decision.messages,
            tool,
            decision.tools,
            subtask=decision.subtask,
            today=decision.today if dualtune.tells_date else "",
            max_tokens=max_tokens,
        )
    except (ContextError, DecodingError, ToolError) as error:
        return replace(call, failure=error.what)
    return replace(call, predicted=replace(call.predicted, arguments=arguments))


def same_json(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal: 3 equals 3.0, true does not equal 1, the order of keys does not matter."""
    return json.dumps(_normalize(left), sort_keys=True) == json.dumps(_normalize(right), sort_keys=True)


def _normalize(value: Any) -> Any:
    """The value with whole floats as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _normalize(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalize(item) for item in value]
    return value


def wilson_interval(successes: int, n: int) -> list[float]:
    """The 95% confidence interval of a proportion (Wilson 1927): its lower and its upper bound."""
    p, z2 = successes / n, Z_95**2
    centre, spread = p + z2 / (2 * n), Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return [max(0.0, (centre - spread) / (1 + z2 / n)), min(1.0, (centre + spread) / (1 + z2 / n))]


def _call_to_dict(call: ToolCall) -> dict[str, Any]:
    return {"server": call.server, "name": call.name, "arguments": dict(call.arguments)}
