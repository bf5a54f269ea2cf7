"""One stage over the base model: base keys and values up to the activation point, from there on the adapter."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import mlx.core as mx

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.decoding import (
    ArgumentGrammar,
    ArgumentWriter,
    DecodeStep,
    Decoding,
    DraftBuffer,
    Grounding,
    LogProbabilities,
    PromptLookup,
    RankedName,
    TrieFork,
    rank_names,
    write_arguments,
)
from dualtune_mlx.errors import ContextError
from dualtune_mlx.kv import PrefixCache, Snapshot, TokenTree, TreeNode, TreePaths, kv_fingerprint
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, TokenStream, span_name
from dualtune_mlx.tools.usage import StageUsage

DEFAULT_ACTIVATION = "turn"
T = TypeVar("T")


STAGES = ("planner", "router", "selector", "arguments")
"""The stages that may have an adapter, in the order of a call."""


@dataclass(frozen=True)
class Stage:
    """A step of a call: it writes one span of the token stream, with its adapter or as the base model alone."""

    name: str
    """``planner``, ``router``, ``selector``, ``arguments`` or ``answer``."""
    adapter: Adapter | None = None
    """Acts from its activation point on; without one the base model writes."""
    adapter_name: str = "base"
    """How ``StageUsage`` names the adapter."""
    grounding: Grounding = field(default_factory=dict)
    """The arguments that are copied from the conversation, by tool (``arguments`` and ``planner`` alone)."""
    renderer: PromptRenderer | None = None
    """Renders the stage's stream, where the adapter has a template of its own."""

    @property
    def span(self) -> str:
        """The span of the template that the stage writes: a router writes a ``selector`` span."""
        return span_name(self.name)

    @property
    def activation(self) -> str:
        """Where the adapter begins to act: ``invocation``, ``turn`` or ``all``."""
        return self.adapter.config.activation if self.adapter else DEFAULT_ACTIVATION

    @property
    def cache_boundary(self) -> str:
        """The activation point up to which keys and values are kept; an ``all`` adapter's are kept up to the turn."""
        return "turn" if self.activation == "all" else self.activation

    @property
    def prefix_adapter(self) -> str:
        """The content hash of the adapter that acts before the cache boundary; "" where the base model alone acts."""
        return self.adapter.content_hash if self.adapter and self.activation == "all" else ""


@dataclass(frozen=True)
class StageResult(Generic[T]):
    """The output of a stage, and what it cost."""

    value: T
    usage: StageUsage


class StageRunner:
    """Runs stages over one base model. They share the base's keys and values; no stage sees another adapter's.

    Its ``prefixes`` keep what was computed before the adapters act.
    """

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.prefixes = PrefixCache(kv_fingerprint(base.model, base.fingerprint))

    def choose(
        self,
        stage: Stage,
        stream: TokenStream,
        names: Mapping[str, tuple[int, ...]],
        top_k: int,
        on_best: Callable[[RankedName], object] = lambda ranked: None,
    ) -> StageResult[list[RankedName]]:
        """The ``top_k`` most probable names for the stage's span, with exact probabilities.

        Args:
            stage: the stage that chooses.
            stream: the tokens up to the span, and whatever follows.
            names: each name's tokens.
            top_k: how many names to rank.
            on_best: called with the best name before the others are ranked.

        Raises:
            ContextError: when the stream is longer than the model's context.
        """
        with self.start(stage, stream) as forward:
            forks = _Forks(forward, stream.active_tokens(stage.span, stage.cache_boundary))
            return StageResult(rank_names(names, forks.log_probabilities, top_k, on_best), forward.usage)

    def write(
        self, stage: Stage, stream: TokenStream, grammar: ArgumentGrammar, decoding: Decoding
    ) -> Generator[DecodeStep, None, StageResult[dict[str, Any]]]:
        """The stage's span as a JSON object, under a grammar, step by step.

        The model is in use until the generator is at its end or closed; closing it stops between two steps.

        Raises:
            DecodingError: when the object is not complete after ``decoding.max_tokens`` tokens.
            ContextError: when the stream is longer than the model's context.
        """
        with self.start(stage, stream) as forward:
            seen = PromptLookup(stream.tokens[stream.last_span("prefix").end : stream.last_span(stage.span).start])
            draft = (lambda: grammar.valid_prefix(seen.draft())) if decoding.draft else tuple
            buffer = DraftBuffer(
                stream.active_tokens(stage.span, stage.cache_boundary), forward.extend, forward.take_back, draft
            )
            writer = ArgumentWriter(grammar, decoding)
            for step in write_arguments(writer, buffer):
                count_step(step, forward.usage)
                seen.append(step.tokens)
                yield step
            return StageResult(writer.arguments, forward.usage)

    def check_length(self, stream: TokenStream) -> None:
        """Refuse a stream that the model was not made for.

        Raises:
            ContextError: when the stream is longer than the model's context.
        """
        limit = self.base.context_length
        if limit is not None and len(stream) > limit:
            raise ContextError(
                "the tools and the conversation are longer than the model's context",
                where=self.base.name,
                got=f"{len(stream)} tokens, {stream.last_span('prefix').end} of them tools",
                expected=f"at most {limit}",
                fix="shorten the conversation, show fewer tools, or use shorter tool cards",
            )

    def prefill(self, stage: Stage, tokens: tuple[int, ...], usage: StageUsage) -> list[Any]:
        """Caches, one a layer, of the tokens before a stage's cache boundary.

        What ``prefixes`` know is not computed again; what is computed is kept there. ``usage`` counts both.
        """
        snapshot, known = self.prefixes.find_longest(tokens, stage.prefix_adapter)
        caches = snapshot.to_caches(known) if snapshot else self.base.new_caches()
        usage.reused_tokens += known
        if known < len(tokens):
            usage.prefilled_tokens += len(tokens) - known
            with self.base.bank.overriding(stage.adapter.updates if stage.adapter and stage.prefix_adapter else {}):
                self.base.prefill(tokens[known:], caches)
            self.prefixes.add(Snapshot.of(tokens, caches), stage.prefix_adapter)
        return caches

    @contextmanager
    def start(self, stage: Stage, stream: TokenStream) -> Iterator[Forward]:
        """Forward passes from the stage's cache boundary on, with its adapter active; at the end they are counted.

        Raises:
            ContextError: when the stream is longer than the model's context.
        """
        self.check_length(stream)
        usage = StageUsage(adapter=stage.adapter_name)
        bank, fusion, began = self.base.bank, self.base.fusion, time.perf_counter()
        switches, fusions = bank.switches, fusion.fusions
        caches = self.prefill(stage, stream.tokens[: stream.activation_start(stage.cache_boundary)], usage)
        fusion.activate(stage.adapter)
        try:
            yield Forward(self.base, caches, usage)
        finally:
            if stage.adapter is not None:
                fusion.count_tokens(stage.adapter, usage.forwards)
            usage.switches, usage.fusions = bank.switches - switches, fusion.fusions - fusions
            usage.seconds = time.perf_counter() - began


class Forward:
    """Counted forward passes of one sequence, over its caches."""

    def __init__(self, base: BaseModel, caches: list[Any], usage: StageUsage) -> None:
        self.base = base
        self.caches = caches
        self.usage = usage

    def extend(self, tokens: Sequence[int], last: int = 1) -> mx.array:
        """Append tokens, of which ``last`` - 1 are a draft; the logits (last, vocabulary) behind the last ones."""
        self.usage.drafted_tokens += last - 1
        states = self._hidden(mx.array([list(tokens)]), self.caches, len(tokens))
        return self.base.head(states[0, -last:])

    def take_back(self, count: int) -> None:
        """Remove the last ``count`` tokens that were appended."""
        for cache in self.caches:
            cache.trim(count)

    def grow(self, tree: TokenTree, nodes: Sequence[TreeNode]) -> mx.array:
        """Compute new nodes of a tree; the logits (nodes, vocabulary) behind them."""
        batch = tree.batch(nodes)
        states = self._hidden(batch.tokens, batch.caches, sum(batch.lengths))
        return self.base.head(states[mx.arange(len(nodes)), mx.array(batch.lengths) - 1])

    def _hidden(self, tokens: mx.array, caches: list[Any], count: int) -> mx.array:
        self.usage.forwards += 1
        self.usage.active_tokens += count
        return self.base.hidden(tokens, caches)


class _Forks:
    """Asks the model at forks of names: at the first fork in the sequence itself, at others in branches from there."""

    def __init__(self, forward: Forward, before: Sequence[int]) -> None:
        self._forward = forward
        self._before = before
        self._tree: tuple[TokenTree, TreePaths] | None = None

    def log_probabilities(self, forks: Sequence[TrieFork]) -> LogProbabilities:
        if self._tree is None:
            (fork,) = forks
            logits = self._forward.extend((*self._before, *fork.path))
            tree = TokenTree(self._forward.caches)
            self._tree = tree, TreePaths(fork.path, tree.root)
        else:
            tree, paths = self._tree
            logits = self._forward.grow(tree, [paths.add(fork.path) for fork in forks])
        self._forward.usage.decoded_tokens += len(forks)
        return log_probabilities(logits, forks)


def count_step(step: DecodeStep, usage: StageUsage) -> None:
    """Add a decoding step to what a stage cost."""
    if step.forced:
        usage.forced_tokens += len(step.tokens)
    else:
        usage.decoded_tokens += 1


def log_probabilities(logits: mx.array, forks: Sequence[TrieFork]) -> LogProbabilities:
    """The log-probabilities of each fork's children, from the logits (forks, vocabulary) behind the forks."""
    return [_log_softmax(row[mx.array(list(fork.children))]) for row, fork in zip(logits, forks, strict=True)]


def _log_softmax(logits: mx.array) -> list[float]:
    logits = logits.astype(mx.float32)
    values: list[float] = (logits - mx.logsumexp(logits)).tolist()  # type: ignore[assignment]
    return values
