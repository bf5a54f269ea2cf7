"""An engine while it is open: a pipeline that takes turns at the base model, and a thread for event loops."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import mlx.core as mx

from dualtune_mlx import linux
from dualtune_mlx.concurrency import EngineThread, Ticket
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine.answer import write_answer
from dualtune_mlx.engine.budget import divide_budget
from dualtune_mlx.engine.events import AnswerText, Event
from dualtune_mlx.engine.pipeline import CallPipeline
from dualtune_mlx.engine.requests import CallRequest
from dualtune_mlx.errors import UsageError
from dualtune_mlx.tools import Message, Tool

T = TypeVar("T")


class OpenEngine:
    """What an engine has until it is closed.

    Args:
        pipeline: makes the calls. Its stages' adapters are released when the engine is closed.
    """

    def __init__(self, pipeline: CallPipeline) -> None:
        self._pipeline: CallPipeline | None = pipeline
        self._fused_limit: int | None = None
        # A thread whose streams outlive it can abort the process at its end (MLX asks for this call).
        self._thread = EngineThread(at_end=mx.clear_streams)

    @property
    def pipeline(self) -> CallPipeline:
        """The pipeline.

        Raises:
            UsageError: when the engine is closed.
        """
        if self._pipeline is None:
            raise UsageError("the engine is closed", fix="load the bundle again")
        return self._pipeline

    def limit_memory(self, budget: int) -> None:
        """Hold weights, adapters, kept prefixes and fused weights to so many bytes. The caller has the turn.

        Raises:
            ModelError: when weights and adapters alone exceed the budget.
        """
        base = self.pipeline.base
        self._fused_limit = divide_budget(budget, base, self.pipeline.runner.prefixes)
        base.limit_fused(self._fused_limit)

    @contextmanager
    def turn(self, ticket: Ticket | None = None) -> Iterator[None]:
        """The turn at the base model. Before and after it no adapter is active."""
        with self.pipeline.base.lock.turn(ticket):
            bank = self.pipeline.base.bank  # once more: the engine may have been closed meanwhile
            try:
                yield
            finally:
                bank.activate(None)

    def stream(self, request: CallRequest, ticket: Ticket | None = None) -> Generator[Event, None, None]:
        """A call in its turn, event by event."""
        with self.turn(ticket):
            yield from self.pipeline.call(request)

    def planning(
        self, messages: tuple[Message, ...], tools: tuple[Tool, ...], decoding: Decoding, ticket: Ticket | None = None
    ) -> Generator[Event, None, None]:
        """A plan in its turn, event by event."""
        with self.turn(ticket):
            yield from self.pipeline.plan(messages, tools, decoding)

    def answer(
        self, messages: tuple[Message, ...], max_tokens: int, ticket: Ticket | None = None
    ) -> Generator[AnswerText, None, None]:
        """An answer in words in its turn, piece by piece."""
        with self.turn(ticket):
            yield from write_answer(self.pipeline, messages, max_tokens)

    def on_thread(self, work: Callable[[Ticket], Iterable[T]]) -> AsyncGenerator[T, None]:
        """The items of some work that needs the turn, done on the engine's thread."""
        return self._thread.iterate(self.pipeline.base.lock, work)

    def close(self) -> None:
        """Wait for the turn, then free what the engine added. Closing twice is fine.

        Raises:
            UsageError: when a stream of this same thread is neither at its end nor closed.
        """
        if self._pipeline is None:
            return
        base, pipeline = self._pipeline.base, self._pipeline
        with base.lock.turn():
            self._pipeline = None
            pipeline.registry.close()
            if self._fused_limit is not None:
                base.unlimit_fused(self._fused_limit)
        self._thread.close()
        del base, pipeline
        gc.collect()
        mx.clear_cache()
        linux.give_back_freed_memory()
