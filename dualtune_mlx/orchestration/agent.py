"""The agent: a bundle, the tools of running servers, and a loop between them.

configs = read_config("mcp.json")
with connected(configs) as toolbox, DualTune.load("bundle") as dt:
    agent = Agent(dt, toolbox, Policy(configs), ask)
    print(agent.run("Which file in notes is the newest?").answer)
    for event in agent.stream("…"): ...         # or: await agent.arun("…"), async for event in agent.astream("…")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING

from dualtune_mlx.events import Done
from dualtune_mlx.models import cache_folder
from dualtune_mlx.orchestration.approvals import Answer, Ask, Policy, Question
from dualtune_mlx.orchestration.client import Toolbox
from dualtune_mlx.orchestration.limits import Limits, Stop, Watch
from dualtune_mlx.orchestration.loop import Loop, Steps
from dualtune_mlx.orchestration.planner import Planner, without_thoughts, worked
from dualtune_mlx.orchestration.steps import (
    AgentEvent,
    Approve,
    Choose,
    Ended,
    Execute,
    Need,
    Speak,
    Spoken,
    SpokenText,
)
from dualtune_mlx.orchestration.transcript import Recorder, new_transcript
from dualtune_mlx.tools import Tool, as_messages

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune, Messages

TOP_K = 3
BASE = "base model"


def refused(_: Question) -> Answer:
    """What is answered where nobody can be asked."""
    return "no"


class Agent:
    """Does tasks with the tools of a toolbox.

    Args:
        dualtune: writes the calls, and the answers where there is no planner.
        toolbox: its tools are visible, those of now at every step.
        policy: which calls may run.
        ask: asks the user about one call; without it, what would be asked is refused.
        limits: what a run may take.
        planner: a model that plans before the first call and writes the answer.
        dry_run: end at the first call, and execute nothing.
        transcripts: the folder where every run leaves its transcript; ``$DUALTUNE_CACHE/transcripts`` if not given.
    """

    def __init__(
        self,
        dualtune: DualTune,
        toolbox: Toolbox,
        policy: Policy,
        ask: Ask = refused,
        *,
        limits: Limits | None = None,
        planner: Planner | None = None,
        dry_run: bool = False,
        transcripts: Path | None = None,
    ) -> None:
        self.dualtune, self.toolbox, self.policy, self.ask = dualtune, toolbox, policy, ask
        self.limits, self.planner, self.dry_run = limits or Limits(), planner, dry_run
        self.transcripts = transcripts or cache_folder() / "transcripts"

    def run(self, task: Messages) -> Ended:
        """Do a task: a request as text, or a conversation.

        Whatever ends the run, also an error of a tool or a limit, is said in what is returned.

        Raises:
            UsageError: when the transcript cannot be written, or the engine is closed.
        """
        *_, ended = self.stream(task)
        assert isinstance(ended, Ended)
        return ended

    def stream(self, task: Messages) -> Generator[AgentEvent, None, None]:
        """``run``, event by event; the last one is ``Ended``. Close the generator to stop."""
        watch = Watch(self.limits)
        with self._recorder(task) as recorder, closing(self._loop(task, watch)) as steps:
            item: AgentEvent | Need = next(steps)
            while True:
                if not isinstance(item, Need):
                    yield (event := recorder.seen(item))
                    if isinstance(event, Ended):
                        return
                    item = next(steps)
                    continue
                try:
                    met = yield from self._met(item, watch)
                except Exception as error:  # the loop knows which of them it can go on from
                    item = steps.throw(error)
                else:
                    item = steps.send(met)

    async def arun(self, task: Messages) -> Ended:
        """``run``, without blocking the event loop; cancelling the task stops the model, and the call at its server."""
        async with aclosing(self.astream(task)) as events:
            *_, ended = [event async for event in events]
        assert isinstance(ended, Ended)
        return ended

    async def astream(self, task: Messages) -> AsyncGenerator[AgentEvent, None]:
        """``stream`` for asynchronous code; ``ask`` is called in a thread of its own."""
        watch = Watch(self.limits)
        with self._recorder(task) as recorder, closing(self._loop(task, watch)) as steps:
            item: AgentEvent | Need = next(steps)
            while True:
                if not isinstance(item, Need):
                    yield (event := recorder.seen(item))
                    if isinstance(event, Ended):
                        return
                    item = next(steps)
                    continue
                met: object = None
                try:
                    async with aclosing(self._amet(item, watch)) as parts:
                        async for part in parts:
                            if isinstance(part, _Met):
                                met = part.value
                            else:
                                yield part
                except Exception as error:
                    item = steps.throw(error)
                else:
                    item = steps.send(met)

    def _loop(self, task: Messages, watch: Watch) -> Steps:
        planned = self.planner is not None
        return Loop(
            as_messages(task), self.policy, watch, self._visible, self.toolbox.whole, planned, self.dry_run
        ).run()

    def _visible(self) -> tuple[Tool, ...]:
        return tuple(tool for server in self.toolbox.servers for tool in server.tools)

    def _recorder(self, task: Messages) -> Recorder:
        return new_transcript(self.transcripts, as_messages(task), self.dualtune, self.planner is not None)

    def _met(self, need: Need, watch: Watch) -> Generator[AgentEvent, None, object]:
        """Meet a need of the loop; what is seen meanwhile, and what it gave."""
        match need:
            case Choose(messages, tools):
                with closing(self.dualtune.stream(messages, tools, top_k=TOP_K)) as events:
                    for event in events:
                        if isinstance(event, Done):
                            return event.call
                        yield event
                        watch.check_time()
            case Approve(question):
                with watch.paused():
                    return self.ask(question)
            case Execute(call):
                try:
                    return self.toolbox.execute(call, True, watch.seconds_left)
                except TimeoutError as error:
                    raise late(watch, call.name) from error
            case Speak(purpose):
                written = []
                with closing(self._pieces(need)) as pieces:
                    for text in pieces:
                        written.append(text)
                        watch.tokens += 1
                        yield SpokenText(purpose, text)
                        watch.check_time()
                return self._spoken(need, written)
        raise AssertionError(need)

    async def _amet(self, need: Need, watch: Watch) -> AsyncGenerator[AgentEvent | _Met, None]:
        """``_met`` for asynchronous code; what it gave comes last."""
        match need:
            case Choose(messages, tools):
                async with aclosing(self.dualtune.astream(messages, tools, top_k=TOP_K)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            yield _Met(event.call)
                        else:
                            yield event
                            watch.check_time()
            case Approve(question):
                with watch.paused():
                    yield _Met(await asyncio.to_thread(self.ask, question))
            case Execute(call):
                try:
                    async with asyncio.timeout(watch.seconds_left):
                        yield _Met(await self.toolbox.aexecute(call, True))
                except TimeoutError as error:
                    raise late(watch, call.name) from error
            case Speak(purpose):
                written = []
                async with aclosing(self._apieces(need)) as pieces:
                    async for text in pieces:
                        written.append(text)
                        watch.tokens += 1
                        yield SpokenText(purpose, text)
                        watch.check_time()
                yield _Met(self._spoken(need, written))

    def _pieces(self, need: Speak) -> Generator[str, None, None]:
        if self.planner is not None:
            yield from self.planner.speak(need)
            return
        with closing(self.dualtune.answer(need.messages, need.tools, max_tokens=need.max_tokens)) as pieces:
            for piece in pieces:
                yield piece.text

    async def _apieces(self, need: Speak) -> AsyncGenerator[str, None]:
        if self.planner is not None:
            async with aclosing(worked(self.planner, need)) as texts:
                async for text in texts:
                    yield text
            return
        async with aclosing(self.dualtune.aanswer(need.messages, need.tools, max_tokens=need.max_tokens)) as pieces:
            async for piece in pieces:
                yield piece.text

    def _spoken(self, need: Speak, pieces: list[str]) -> Spoken:
        text = "".join(pieces)
        if self.planner is None:
            return Spoken(need.purpose, text.strip(), BASE, need.max_tokens)
        return Spoken(need.purpose, without_thoughts(text), self.planner.name, need.max_tokens)


class _Met:
    """What a need was met with."""

    def __init__(self, value: object) -> None:
        self.value = value


def late(watch: Watch, tool: str) -> Stop:
    """The time is over while a tool was at work."""
    return watch.out_of_time(f" while {tool!r} ran: the call was cancelled, what it did until then is not known")
