"""Lexical evidence in a call: where it counts, which tools are shown to the model, and what each choice gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dualtune_mlx.decoding import Evidence, join, log_sum
from dualtune_mlx.engine.trained_tools import TrainedTools
from dualtune_mlx.tools import RESPOND, Message, Tool
from dualtune_mlx.tools.hierarchy import Node
from dualtune_mlx.tools.lexical import best_places, lexical_scores

Shares = list[tuple[Tool | Node, float]]
"""Choices with their probabilities, best first."""


@dataclass(frozen=True)
class ToolMatch:
    """How well the visible tools match one request. Without evidence it changes nothing."""

    evidence: Evidence | None = None
    """The weight of the words; None where all visible tools were trained on, or the bundle has none."""
    scores: Mapping[int, float] = field(default_factory=dict)
    """The lexical score of each tool, by the tool's ``id()``: tools themselves cannot be keys."""
    untrained: frozenset[int] = frozenset()
    """The tools, by ``id()``, that the bundle was not trained on."""
    is_open: bool = True
    """Whether no call was made yet for what is due. Afterwards its words point at the tool that was called already, and
    the model's probabilities stay as they are."""

    def shown(self, node: Node, keep: Tool | None = None) -> Node:
        """A node without the untrained tools that match worst, so that at most ``evidence.shown`` of them are left.

        Args:
            node: a choice among tools, or among nodes, which all stay.
            keep: a tool that stays.
        """
        if self.evidence is None or node.routes:
            return node
        untrained = [tool for tool in node.tools if id(tool) in self.untrained]
        scores = [2.0 if tool == keep else self.scores[id(tool)] for tool in untrained]
        best = {id(untrained[place]) for place in best_places(scores, self.evidence.shown)}
        left = (tool for tool in node.tools if id(tool) in best or id(tool) not in self.untrained)
        return replace(node, choices=tuple(left))

    def asked(self, wanted: int, count: int) -> int:
        """How many of ``count`` choices the model is asked to rank, so that ``wanted`` are the right ones."""
        return count if self.evidence and self.is_open else wanted

    def weigh(self, shares: Shares, wanted: int) -> Shares:
        """The ``wanted`` best of all choices of a node, with the probabilities that they have with the evidence."""
        if self.evidence is None or not self.is_open:
            return shares
        gains = [self._gain(choice) for choice, _ in shares]
        joined = join([share for _, share in shares], gains, self.evidence.sharpness)
        weighed = [(choice, share) for (choice, _), share in zip(shares, joined, strict=True)]
        return sorted(weighed, key=lambda pair: -pair[1])[:wanted]

    def _gain(self, choice: Tool | Node) -> float:
        """What the words add to a choice, in nats. A node gains what all its tools gain together."""
        assert self.evidence is not None
        if choice is RESPOND:
            return self.evidence.respond
        if isinstance(choice, Node):
            return log_sum([self._gain(tool) for tool in choice.tools])
        return self.evidence.weight * self.scores[id(choice)]


class ToolMatcher:
    """Matches requests with the visible tools, where some of these were not trained on.

    Args:
        evidence: how much words count; None for not at all.
        trained: the tools that were trained on.
    """

    def __init__(self, evidence: Evidence | None, trained: TrainedTools) -> None:
        self.evidence, self._trained = evidence, trained

    def counts(self, tools: tuple[Tool, ...]) -> bool:
        """Whether words count among these tools."""
        return self.evidence is not None and bool(self._trained.find_untrained(tools))

    def match(self, messages: Sequence[Message], tools: tuple[Tool, ...], subtask: str = "") -> ToolMatch:
        """How well these tools match what is due: a subtask, or else the last request."""
        if not self.counts(tools):
            return ToolMatch()
        due, is_open = find_due(messages, subtask)
        scores = dict(zip(map(id, tools), lexical_scores(due, tools), strict=True))
        untrained = frozenset(id(tools[place]) for place in self._trained.find_untrained(tools))
        return ToolMatch(self.evidence, scores, untrained, is_open)


def find_due(messages: Sequence[Message], subtask: str = "") -> tuple[str, bool]:
    """The words of what is due, and whether no call was made for it yet."""
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    called = any(message.tool_calls and message.subtask == subtask for message in messages[last + 1 :])
    return subtask or (messages[last].content if last >= 0 else ""), not called
