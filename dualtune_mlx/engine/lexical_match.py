"""Lexical evidence in a call: where it counts, which tools are shown to the model, and what each choice gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.decoding import Evidence, WordClassifier, WordReading, join, log_sum, narrow
from dualtune_mlx.decoding.word_classifier import Array
from dualtune_mlx.engine.trained_tools import TrainedTools
from dualtune_mlx.errors import BundleError
from dualtune_mlx.models import BaseModel
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
    learned: Mapping[int, float] = field(default_factory=dict)
    """What a word classifier says of each tool and of ``respond``, in nats; empty without one."""
    due: str = ""
    """The words of what is due."""
    reading: WordReading = field(default_factory=WordReading)
    """All that the word classifier says."""
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

    def narrow(self, tool: Tool, messages: Sequence[Message]) -> Tool:
        """The tool with the arguments that the words of the request leave to the model."""
        counts = self.is_open and (id(tool) in self.untrained or self.reading.knows(tool.full_name))
        return narrow(tool, self.due, self.reading, messages) if counts else tool

    def _gain(self, choice: Tool | Node) -> float:
        """What the words add to a choice, in nats. A node gains what all its tools gain together."""
        assert self.evidence is not None
        if choice is RESPOND:
            return self.evidence.respond + self.learned.get(id(RESPOND), 0.0)
        if isinstance(choice, Node):
            return log_sum([self._gain(tool) for tool in choice.tools])
        return self.evidence.weight * self.scores[id(choice)] + self.learned.get(id(choice), 0.0)


@dataclass(frozen=True)
class LearnedWords:
    """A bundle's word classifier in use."""

    classifier: WordClassifier
    evidence: Evidence
    """How it joins the model."""
    embed: Callable[[str], Array]
    """Gives the mean of the embeddings of a text's tokens."""

    def knows(self, tools: tuple[Tool, ...]) -> bool:
        """Whether the classifier chooses among all of these tools."""
        return self.classifier.knows([tool.full_name for tool in tools])

    def read(self, due: str) -> WordReading:
        """What the words of a request say."""
        return self.classifier.read(due, self.embed(due))


def open_words(bundle: Bundle | None, base: BaseModel) -> LearnedWords | None:
    """The word classifier of a bundle, where it has one.

    Raises:
        BundleError: when it is not the one that the manifest describes, or not for the model.
    """
    if bundle is None or bundle.words is None or (classifier := bundle.load_words()) is None:
        return None
    with base.lock.turn():
        expected, got = base.embed("").shape, classifier.center.shape
    if expected != got:
        raise BundleError(
            "the word classifier is for another model",
            where=bundle.folder,
            got=f"embeddings {got}",
            expected=expected,
            fix="fit it again: dualtune bundle words",
        )
    return LearnedWords(classifier, bundle.words.evidence, base.embed)


class ToolMatcher:
    """Matches requests with the visible tools: by what was learned of them, or else where some are untrained.

    Args:
        evidence: how much words count for tools that were not trained on; None for not at all.
        trained: the tools that were trained on.
        learned: the word classifier. It counts where it knows all visible tools.
    """

    def __init__(self, evidence: Evidence | None, trained: TrainedTools, learned: LearnedWords | None = None) -> None:
        self.evidence, self._trained, self._learned = evidence, trained, learned

    def counts(self, tools: tuple[Tool, ...]) -> bool:
        """Whether words count among these tools."""
        return self._known(tools) is not None or self._counts_untrained(tools)

    def match(self, messages: Sequence[Message], tools: tuple[Tool, ...], subtask: str = "") -> ToolMatch:
        """How well these tools match what is due: a subtask, or else the last request."""
        learned = self._known(tools)
        if not learned and not self._counts_untrained(tools):
            return ToolMatch()
        due, is_open = find_due(messages, subtask)
        scores = dict(zip(map(id, tools), lexical_scores(due, tools), strict=True))
        if learned:
            choices, reading = (*tools, RESPOND), learned.read(due)
            logs = reading.choose([tool.full_name for tool in choices])
            gains = dict(zip(map(id, choices), logs, strict=True))
            return ToolMatch(learned.evidence, scores, gains, due, reading, is_open=is_open)
        untrained = frozenset(id(tools[place]) for place in self._trained.find_untrained(tools))
        return ToolMatch(self.evidence, scores, due=due, untrained=untrained, is_open=is_open)

    def _known(self, tools: tuple[Tool, ...]) -> LearnedWords | None:
        return self._learned if self._learned and self._learned.knows(tools) else None

    def _counts_untrained(self, tools: tuple[Tool, ...]) -> bool:
        return self.evidence is not None and bool(self._trained.find_untrained(tools))


def find_due(messages: Sequence[Message], subtask: str = "") -> tuple[str, bool]:
    """The words of what is due, and whether no call was made for it yet."""
    last = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    called = any(message.tool_calls and message.subtask == subtask for message in messages[last + 1 :])
    return subtask or (messages[last].content if last >= 0 else ""), not called
