"""Runs a stage: base KV up to the activation point, from there on the stage's adapter."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import mlx.core as mx
import numpy as np

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.decoding import ArgumentGrammar, Grounding, Ranked, best_first
from dualtune_mlx.errors import DecodingError, PromptError
from dualtune_mlx.kv import PrefixCache, Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import Stream
from dualtune_mlx.usage import StageUsage

DEFAULT_ACTIVATION = "turn"
T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """A named span of the stream and the adapter that writes it; without one the base model does."""

    name: str
    adapter: Adapter | None = None
    adapter_name: str = "base"
    grounding: Grounding = field(default_factory=dict)

    @property
    def activation(self) -> str:
        return self.adapter.config.activation if self.adapter else DEFAULT_ACTIVATION


@dataclass(frozen=True)
class Ran(Generic[T]):
    """What a stage gave, and what it cost."""

    value: T
    usage: StageUsage


class StageRunner:
    """Runs stages over one base model; they share the base's KV, and never see each other's."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.prefixes = PrefixCache()

    def choose(
        self, stage: Stage, stream: Stream, names: Mapping[str, tuple[int, ...]], top_k: int
    ) -> Ran[list[Ranked]]:
        """The ``top_k`` most probable names for the stage's span, with exact probabilities."""
        with self._pass(stage, stream) as forward:
            root = forward.extend(stream.active(stage.name, stage.activation))

            def log_probabilities(path: tuple[int, ...], allowed: Sequence[int]) -> list[float]:
                logits = forward.peek(path) if path else root
                chosen = logits[mx.array(list(allowed))].astype(mx.float32)
                forward.usage.decoded_tokens += 1
                return np.array(chosen - mx.logsumexp(chosen)).tolist()

            return Ran(best_first(names, log_probabilities, top_k), forward.usage)

    def write(self, stage: Stage, stream: Stream, grammar: ArgumentGrammar, max_tokens: int) -> Ran[dict[str, Any]]:
        """The stage's span as a JSON object, greedily, under a grammar.

        Raises:
            DecodingError: when it is not complete after ``max_tokens`` tokens.
        """
        with self._pass(stage, stream) as forward:
            pending = list(stream.active(stage.name, stage.activation))
            written: list[int] = []
            while True:
                forced = grammar.forced()
                forward.usage.forced_tokens += len(forced)
                written += forced
                pending += forced
                if grammar.complete:
                    return Ran(grammar.value(written), forward.usage)
                if len(written) >= max_tokens:
                    raise DecodingError(
                        "the arguments were not complete within the token budget",
                        where=f"tool {grammar.tool.name!r}",
                        got=f"{len(written)} tokens",
                        expected=f"at most {max_tokens}",
                        fix="raise max_tokens, or shorten the request",
                    )
                logits = forward.extend(pending)
                allowed = mx.array(grammar.allowed(logits.shape[-1]))
                token = int(mx.argmax(mx.where(allowed, logits, -mx.inf)).item())  # type: ignore[arg-type]
                forward.usage.decoded_tokens += 1
                grammar.append([token])
                written.append(token)
                pending = [token]

    @contextmanager
    def _pass(self, stage: Stage, stream: Stream) -> Iterator[_Forward]:
        """A forward pass that stands at the activation point, with the stage's adapter active."""
        self._check_length(stream)
        usage = StageUsage(adapter=stage.adapter_name)
        bank, began = self.base.bank, time.perf_counter()
        switches = bank.switches
        before = stream.tokens[: stream.activation(stage.activation)]
        caches = self._base_caches(before, usage)
        bank.activate(stage.adapter)
        try:
            yield _Forward(self.base, caches, usage)
        finally:
            usage.switches = bank.switches - switches
            usage.seconds = time.perf_counter() - began

    def _check_length(self, stream: Stream) -> None:
        limit = self.base.context_length
        if limit is not None and len(stream) > limit:
            raise PromptError(
                "the tools and the conversation are longer than the model's context",
                where=self.base.name,
                got=f"{len(stream)} tokens, {stream.last('prefix').end} of them tools",
                expected=f"at most {limit}",
                fix="shorten the conversation, show fewer tools, or use shorter tool cards",
            )

    def _base_caches(self, tokens: tuple[int, ...], usage: StageUsage) -> list[Any]:
        """Caches that hold the base model's KV of some tokens; what is known is not computed again."""
        if not tokens:
            return self.base.caches()
        snapshot, known = self.prefixes.longest(tokens)
        caches = snapshot.caches(known) if snapshot else self.base.caches()
        usage.reused_tokens += known
        if known < len(tokens):
            usage.prefilled_tokens += len(tokens) - known
            with self.base.bank.placed({}):
                self.base.prefill(tokens[known:], caches)
            snapshot = Snapshot.of(tokens, caches)
            self.prefixes.add(snapshot)
            caches = snapshot.caches(len(tokens))
        return caches


class _Forward:
    """Forward passes of one row over caches, counted."""

    def __init__(self, base: BaseModel, caches: list[Any], usage: StageUsage) -> None:
        self.base = base
        self.caches = caches
        self.usage = usage

    def extend(self, tokens: Sequence[int]) -> mx.array:
        """Append tokens; the logits (vocabulary,) of what follows."""
        self.usage.forwards += 1
        self.usage.active_tokens += len(tokens)
        states = self.base.hidden(mx.array([list(tokens)]), self.caches)
        return self.base.head(states[0, -1])

    def peek(self, tokens: Sequence[int]) -> mx.array:
        """The logits after some tokens, which are then taken back."""
        logits = self.extend(tokens)
        mx.eval(logits)
        for cache in self.caches:
            cache.trim(len(tokens))
        return logits
