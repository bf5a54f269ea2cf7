"""The agent: a bundle, the tools of running servers, and a loop between them.

configs = read_config("mcp.json")
with connected(configs) as toolbox, DualTune.load("bundle") as dt:
    agent = Agent(dt, toolbox, Policy(configs), ask)
    print(agent.run("Which file in notes is the newest?").answer)
    for event in agent.stream("…"): ...         # or: await agent.arun("…"), async for event in agent.astream("…")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dualtune_mlx.agent.chat_model import ChatModel, without_thoughts, worked
from dualtune_mlx.agent.events import (
    AgentEvent,
    Approve,
    Choose,
    Divide,
    Effect,
    Execute,
    RunEnded,
    Speak,
    Spoken,
    SpokenText,
)
from dualtune_mlx.agent.limits import Budget, Limits, Stop
from dualtune_mlx.agent.loop import Loop, Steps
from dualtune_mlx.agent.transcript import Recorder, new_transcript
from dualtune_mlx.engine.events import Done, Event, Planned
from dualtune_mlx.mcp.approvals import Answer, Ask, Policy, Question
from dualtune_mlx.mcp.client import Toolbox
from dualtune_mlx.paths import cache_folder
from dualtune_mlx.tools import Tool, as_messages

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune
    from dualtune_mlx.engine.dualtune import Messages

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
        planner: ChatModel | None = None,
        dry_run: bool = False,
        transcripts: Path | None = None,
    ) -> None:
        self.dualtune, self.toolbox, self.policy, self.ask = dualtune, toolbox, policy, ask
        self.limits, self.planner, self.dry_run = limits or Limits(), planner, dry_run
        self.transcripts = transcripts or cache_folder() / "transcripts"

    def run(self, task: Messages) -> RunEnded:
        """Do a task: a request as text, or a conversation.

        Whatever ends the run, also an error of a tool or a limit, is said in what is returned.

        Raises:
            UsageError: when the transcript cannot be written, or the engine is closed.
        """
        *_, ended = self.stream(task)
        assert isinstance(ended, RunEnded)
        return ended

    def stream(self, task: Messages) -> Generator[AgentEvent, None, None]:
        """``run``, event by event; the last one is ``RunEnded``. Close the generator to stop."""
        with self._run(task) as run:
            for item in run:
                if isinstance(item, Effect):
                    with run.meeting():
                        yield from self._met(item, run)
                else:
                    yield item

    async def arun(self, task: Messages) -> RunEnded:
        """``run``, without blocking the event loop; cancelling the task stops the model, and the call at its server."""
        async with aclosing(self.astream(task)) as events:
            *_, ended = [event async for event in events]
        assert isinstance(ended, RunEnded)
        return ended

    async def astream(self, task: Messages) -> AsyncGenerator[AgentEvent, None]:
        """``stream`` for asynchronous code; ``ask`` is called in a thread of its own."""
        with self._run(task) as run:
            for item in run:
                if isinstance(item, Effect):
                    with run.meeting():
                        async with aclosing(self._amet(item, run)) as events:
                            async for event in events:
                                yield event
                else:
                    yield item

    @contextmanager
    def _run(self, task: Messages) -> Iterator[Run]:
        messages, watch, planned = as_messages(task), Budget(self.limits), self.planner is not None
        divided = self.dualtune.divides and not planned
        loop = Loop(messages, self.policy, watch, self._visible, self.toolbox.whole, planned, divided, self.dry_run)
        transcript = new_transcript(self.transcripts, messages, self.dualtune, planned)
        with transcript as recorder, closing(loop.run()) as steps:
            yield Run(steps, recorder, watch)

    def _visible(self) -> tuple[Tool, ...]:
        return tuple(tool for server in self.toolbox.servers for tool in server.tools)

    def _met(self, need: Effect, run: Run) -> Generator[AgentEvent, None, None]:
        """Meet a need of the loop, event by event."""
        watch = run.watch
        match need:
            case Divide() | Choose():
                with closing(self._modelled(need)) as events:
                    for event in events:
                        if isinstance(event, Planned):
                            run.met = event
                        elif isinstance(event, Done):
                            run.met = event.call
                        else:
                            yield event
                            watch.check_time()
            case Approve(question):
                with watch.paused():
                    run.met = self.ask(question)
            case Execute(call):
                try:
                    run.met = self.toolbox.execute(call, True, watch.seconds_left)
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
                run.met = self._spoken(need, written)

    async def _amet(self, need: Effect, run: Run) -> AsyncGenerator[AgentEvent, None]:
        """``_met`` for asynchronous code."""
        watch = run.watch
        match need:
            case Divide() | Choose():
                async with aclosing(self._amodelled(need)) as events:
                    async for event in events:
                        if isinstance(event, Planned):
                            run.met = event
                        elif isinstance(event, Done):
                            run.met = event.call
                        else:
                            yield event
                            watch.check_time()
            case Approve(question):
                with watch.paused():
                    run.met = await asyncio.to_thread(self.ask, question)
            case Execute(call):
                try:
                    async with asyncio.timeout(watch.seconds_left):
                        run.met = await self.toolbox.aexecute(call, True)
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
                run.met = self._spoken(need, written)

    def _modelled(self, need: Divide | Choose) -> Generator[Event, None, None]:
        """A plan or a call as the function-calling model writes it, event by event."""
        if isinstance(need, Divide):
            return self.dualtune.planning(need.messages, need.tools)
        return self.dualtune.stream(need.messages, need.tools, top_k=TOP_K, subtask=need.subtask)

    def _amodelled(self, need: Divide | Choose) -> AsyncGenerator[Event, None]:
        if isinstance(need, Divide):
            return self.dualtune.aplanning(need.messages, need.tools)
        return self.dualtune.astream(need.messages, need.tools, top_k=TOP_K, subtask=need.subtask)

    def _pieces(self, need: Speak) -> Generator[str, None, None]:
        if self.planner is not None:
            yield from self.planner.speak(need)
            return
        with closing(self.dualtune.answer(need.messages, max_tokens=need.max_tokens)) as pieces:
            for piece in pieces:
                yield piece.text

    async def _apieces(self, need: Speak) -> AsyncGenerator[str, None]:
        if self.planner is not None:
            async with aclosing(worked(self.planner, need)) as texts:
                async for text in texts:
                    yield text
            return
        async with aclosing(self.dualtune.aanswer(need.messages, max_tokens=need.max_tokens)) as pieces:
            async for piece in pieces:
                yield piece.text

    def _spoken(self, need: Speak, pieces: list[str]) -> Spoken:
        text = "".join(pieces)
        if self.planner is None:
            return Spoken(need.purpose, text.strip(), BASE, need.max_tokens)
        return Spoken(need.purpose, without_thoughts(text), self.planner.name, need.max_tokens)


class Run:
    """A run on its way: its events, each written down, and its needs, each to be met before the next step.

    ``met`` takes what a need is met with.
    """

    def __init__(self, steps: Steps, recorder: Recorder, watch: Budget) -> None:
        self.watch = watch
        self.met: object = None
        self._failure: Exception | None = None
        self._steps, self._recorder = steps, recorder

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> AgentEvent | Effect:
        met, failure = self.met, self._failure
        self.met = self._failure = None
        item = self._steps.throw(failure) if failure else self._steps.send(met)
        return item if isinstance(item, Effect) else self._recorder.seen(item)

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """What fails inside, the loop is told of: it knows which failures it can go on from."""
        try:
            yield
        except Exception as failure:
            self._failure = failure


def late(watch: Budget, tool: str) -> Stop:
    """The time is over while a tool was at work."""
    return watch.out_of_time(f" while {tool!r} ran: the call was cancelled, what it did until then is not known")
