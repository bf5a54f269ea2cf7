"""What performs the effects of the agent's loop: the caller's thread, or an event loop.

There is one driver of the loop, and it is asynchronous. A ``BlockingPerformer`` works where it is called, so that a
driver with it never waits: ``run_in_place`` steps through it without an event loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dualtune_mlx.agent.chat_model import ChatModel, speak_on_thread
from dualtune_mlx.agent.events import Choose, Divide, Speak
from dualtune_mlx.engine.events import AnswerText, Event
from dualtune_mlx.mcp import ApprovalQuestion, PreparedCall, Toolbox, ToolResult
from dualtune_mlx.mcp.approvals import ApprovalAnswer, Ask

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune
    from dualtune_mlx.engine.requests import CallOptions

T = TypeVar("T")
TOP_K = 3
"""How many candidates of a choice are ranked."""


@dataclass(frozen=True)
class Performer(ABC):
    """Performs the effects of a loop."""

    dualtune: DualTune
    toolbox: Toolbox
    ask: Ask
    chat_model: ChatModel | None
    today: str
    """The date that the run began on: all its calls are written with it in view."""

    def choice_options(self, effect: Choose) -> CallOptions:
        """The options of a call."""
        return {"top_k": TOP_K, "subtask": effect.subtask, "today": self.today if self.dualtune.tells_date else ""}

    @abstractmethod
    def write(self, effect: Divide | Choose) -> AsyncGenerator[Event, None]:
        """Write a plan or a call with the function-calling model, event by event."""

    @abstractmethod
    def speak(self, effect: Speak) -> AsyncGenerator[str | AnswerText, None]:
        """Write a plan in words or an answer, piece by piece."""

    @abstractmethod
    async def approve(self, question: ApprovalQuestion) -> ApprovalAnswer:
        """Ask the user."""

    @abstractmethod
    async def execute(self, prepared: PreparedCall, seconds: float) -> ToolResult:
        """Make a call that may run.

        Raises:
            TimeoutError: after so many seconds; the call is then cancelled.
        """


class BlockingPerformer(Performer):
    """Performs effects in the caller's thread. Its coroutines never wait."""

    def write(self, effect: Divide | Choose) -> AsyncGenerator[Event, None]:
        if isinstance(effect, Divide):
            return _iterate(self.dualtune.planning(effect.messages, effect.tools))
        return _iterate(self.dualtune.stream(effect.messages, effect.tools, **self.choice_options(effect)))

    def speak(self, effect: Speak) -> AsyncGenerator[str | AnswerText, None]:
        if self.chat_model is not None:
            return _iterate(self.chat_model.speak(effect))
        return _iterate(self.dualtune.answer(effect.messages, max_tokens=effect.max_tokens))

    async def approve(self, question: ApprovalQuestion) -> ApprovalAnswer:
        return self.ask(question)

    async def execute(self, prepared: PreparedCall, seconds: float) -> ToolResult:
        return self.toolbox.execute(prepared, True, seconds)


class AsyncPerformer(Performer):
    """Performs effects without blocking the event loop: models work on threads of their own, and so does ``ask``."""

    def write(self, effect: Divide | Choose) -> AsyncGenerator[Event, None]:
        if isinstance(effect, Divide):
            return self.dualtune.aplanning(effect.messages, effect.tools)
        return self.dualtune.astream(effect.messages, effect.tools, **self.choice_options(effect))

    def speak(self, effect: Speak) -> AsyncGenerator[str | AnswerText, None]:
        if self.chat_model is not None:
            return speak_on_thread(self.chat_model, effect)
        return self.dualtune.aanswer(effect.messages, max_tokens=effect.max_tokens)

    async def approve(self, question: ApprovalQuestion) -> ApprovalAnswer:
        return await asyncio.to_thread(self.ask, question)

    async def execute(self, prepared: PreparedCall, seconds: float) -> ToolResult:
        return await self.toolbox.aexecute(prepared, True, seconds)


def run_in_place(events: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items of an asynchronous generator that never waits, in the caller's thread and without an event loop.

    Ctrl-C interrupts it as it does any other code of the thread, and it works where an event loop runs already.
    """
    try:
        while True:
            try:
                item = _finish(anext(events))
            except StopAsyncIteration:
                return
            yield item
    finally:
        _finish(events.aclose())


def _finish(work: Awaitable[T]) -> T:
    try:
        next(work.__await__())
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("what was to work in place waits for an event loop")


async def _iterate(items: Generator[T, None, None]) -> AsyncGenerator[T, None]:
    with closing(items):
        for item in items:
            yield item
