"""Runs a stage: base KV up to the activation point, from there on the stage's adapter."""

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
from dualtune_mlx.errors import PromptError
from dualtune_mlx.kv import PrefixCache, Snapshot, kv_fingerprint
from dualtune_mlx.kv.tree import TokenTree, TreeNode, TreePaths
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer, TokenStream
from dualtune_mlx.tools.usage import StageUsage

DEFAULT_ACTIVATION = "turn"
T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """A named span of the stream and the adapter that writes it; without one the base model does.

    ``prompt`` makes its stream, where that is not the prompt of all stages.
    """

    span: str
    adapter: Adapter | None = None
    adapter_name: str = "base"
    grounding: Grounding = field(default_factory=dict)
    renderer: PromptRenderer | None = None

    @property
    def activation(self) -> str:
        return self.adapter.config.activation if self.adapter else DEFAULT_ACTIVATION

    @property
    def cache_boundary(self) -> str:
        """Up to where keys and values are kept: also those of an ``all`` adapter, up to the turn."""
        return "turn" if self.activation == "all" else self.activation

    @property
    def prefix_adapter(self) -> str:
        """The adapter that acts before the border (its content hash); none where the base model alone does."""
        return self.adapter.content_hash if self.adapter and self.activation == "all" else ""


@dataclass(frozen=True)
class StageResult(Generic[T]):
    """What a stage gave, and what it cost."""

    value: T
    usage: StageUsage


class StageRunner:
    """Runs stages over one base model; they share the base's KV, and never see each other's."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.prefixes = PrefixCache(kv_fingerprint(base.model, base.fingerprint))

    def choose(
        self,
        stage: Stage,
        stream: TokenStream,
        names: Mapping[str, tuple[int, ...]],
        top_k: int,
        best: Callable[[RankedName], object] = lambda ranked: None,
    ) -> StageResult[list[RankedName]]:
        """The ``top_k`` most probable names for the stage's span, with exact probabilities.

        ``best`` is told the best one, before the others are looked for.
        """
        with self.running(stage, stream) as forward:
            forks = _Forks(forward, stream.active_tokens(stage.span, stage.cache_boundary))
            return StageResult(rank_names(names, forks.log_probabilities, top_k, best), forward.usage)

    def writing(
        self, stage: Stage, stream: TokenStream, grammar: ArgumentGrammar, decoding: Decoding
    ) -> Generator[DecodeStep, None, StageResult[dict[str, Any]]]:
        """The stage's span as a JSON object, under a grammar, step by step; close the generator to stop between two.

        Nothing else may use the model until it is done or closed.

        Raises:
            DecodingError: when it is not complete after ``decoding.max_tokens`` tokens.
        """
        with self.running(stage, stream) as forward:
            seen = PromptLookup(stream.tokens[stream.last_span("prefix").end : stream.last_span(stage.span).start])
            draft = (lambda: grammar.valid_prefix(seen.draft())) if decoding.draft else tuple
            buffer = DraftBuffer(
                stream.active_tokens(stage.span, stage.cache_boundary), forward.extend, forward.take_back, draft
            )
            writer = ArgumentWriter(grammar, decoding)
            for step in write_arguments(writer, buffer):
                count(step, forward.usage)
                seen.append(step.tokens)
                yield step
            return StageResult(writer.arguments, forward.usage)

    def check_length(self, stream: TokenStream) -> None:
        """Refuse what the model was not made for.

        Raises:
            PromptError: when the stream is longer than the model's context.
        """
        limit = self.base.context_length
        if limit is not None and len(stream) > limit:
            raise PromptError(
                "the tools and the conversation are longer than the model's context",
                where=self.base.name,
                got=f"{len(stream)} tokens, {stream.last_span('prefix').end} of them tools",
                expected=f"at most {limit}",
                fix="shorten the conversation, show fewer tools, or use shorter tool cards",
            )

    def caches(self, stage: Stage, tokens: tuple[int, ...], usage: StageUsage) -> list[Any]:
        """Caches that hold the KV of some tokens before the border; what is known is not computed again."""
        snapshot, known = self.prefixes.longest(tokens, stage.prefix_adapter)
        caches = snapshot.caches(known) if snapshot else self.base.new_caches()
        usage.reused_tokens += known
        if known < len(tokens):
            usage.prefilled_tokens += len(tokens) - known
            with self.base.bank.overriding(stage.adapter.updates if stage.adapter and stage.prefix_adapter else {}):
                self.base.prefill(tokens[known:], caches)
            self.prefixes.add(Snapshot.of(tokens, caches), stage.prefix_adapter)
        return caches

    @contextmanager
    def running(self, stage: Stage, stream: TokenStream) -> Iterator[Forward]:
        """A forward pass that stands at the activation point, with the stage's adapter active."""
        self.check_length(stream)
        usage = StageUsage(adapter=stage.adapter_name)
        bank, fusion, began = self.base.bank, self.base.fusion, time.perf_counter()
        switches, fusions = bank.switches, fusion.fusions
        caches = self.caches(stage, stream.tokens[: stream.activation_start(stage.cache_boundary)], usage)
        fusion.activate(stage.adapter)
        try:
            yield Forward(self.base, caches, usage)
        finally:
            if stage.adapter is not None:
                fusion.ran(stage.adapter, usage.forwards)
            usage.switches, usage.fusions = bank.switches - switches, fusion.fusions - fusions
            usage.seconds = time.perf_counter() - began


class Forward:
    """Forward passes of one row over caches, counted."""

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
        """Forget the last tokens that were appended."""
        for cache in self.caches:
            cache.trim(count)

    def grow(self, branches: TokenTree, pieces: Sequence[TreeNode]) -> mx.array:
        """The logits (pieces, vocabulary) behind some new pieces of branches."""
        batch = branches.grow(pieces)
        states = self._hidden(batch.tokens, batch.caches, sum(batch.lengths))
        return self.base.head(states[mx.arange(len(pieces)), mx.array(batch.lengths) - 1])

    def _hidden(self, tokens: mx.array, caches: list[Any], count: int) -> mx.array:
        self.usage.forwards += 1
        self.usage.active_tokens += count
        return self.base.hidden(tokens, caches)


class _Forks:
    """Asks the model at forks of names: at the first behind all tokens before it, at others in branches from there."""

    def __init__(self, forward: Forward, before: Sequence[int]) -> None:
        self._forward = forward
        self._before = before
        self._tree: tuple[TokenTree, TreePaths] | None = None

    def log_probabilities(self, forks: Sequence[TrieFork]) -> LogProbabilities:
        if self._tree is None:
            (fork,) = forks
            logits = self._forward.extend((*self._before, *fork.path))
            branches = TokenTree(self._forward.caches)
            self._tree = branches, TreePaths(fork.path, branches.trunk)
        else:
            branches, paths = self._tree
            logits = self._forward.grow(branches, [paths.add(fork.path) for fork in forks])
        self._forward.usage.decoded_tokens += len(forks)
        return answers(logits, forks)


def count(step: DecodeStep, usage: StageUsage) -> None:
    """Add a step of writing to what a stage cost."""
    if step.forced:
        usage.forced_tokens += len(step.tokens)
    else:
        usage.decoded_tokens += 1


def answers(logits: mx.array, forks: Sequence[TrieFork]) -> LogProbabilities:
    """The log-probabilities of each fork's children, by the logits (forks, vocabulary) behind them."""
    return [_log_softmax(row[mx.array(list(fork.children))]) for row, fork in zip(logits, forks, strict=True)]


def _log_softmax(logits: mx.array) -> list[float]:
    logits = logits.astype(mx.float32)
    shares: list[float] = (logits - mx.logsumexp(logits)).tolist()  # type: ignore[assignment]
    return shares
