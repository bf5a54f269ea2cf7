"""The agent: a bundle, the tools of running servers, and a loop between them.

configs = read_config("mcp.json")
with connect(configs) as toolbox, DualTune.load("bundle") as dt:
    agent = Agent(dt, toolbox, ApprovalPolicy(configs), ask)
    print(agent.run("Which file in notes is the newest?").answer)
    for event in agent.stream("…"): ...         # or: await agent.arun("…"), async for event in agent.astream("…")
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dualtune_mlx.agent.chat_model import ChatModel
from dualtune_mlx.agent.events import (
    BASE_MODEL,
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
from dualtune_mlx.agent.limits import Budget, Limits
from dualtune_mlx.agent.loop import Loop, Steps
from dualtune_mlx.agent.performers import AsyncPerformer, BlockingPerformer, Performer, run_in_place
from dualtune_mlx.agent.transcript import Recorder, new_transcript
from dualtune_mlx.chat import strip_thoughts
from dualtune_mlx.engine.events import Done, Planned
from dualtune_mlx.mcp import ApprovalPolicy, ApprovalQuestion, Toolbox
from dualtune_mlx.mcp.approvals import ApprovalAnswer, Ask
from dualtune_mlx.paths import cache_folder
from dualtune_mlx.tools import as_messages
from dualtune_mlx.tools.today import machine_date

if TYPE_CHECKING:
    from dualtune_mlx.engine import DualTune
    from dualtune_mlx.engine.dualtune import Messages


def ask_nobody(_: ApprovalQuestion) -> ApprovalAnswer:
    """Answer where nobody can be asked."""
    return "nobody"


class Agent:
    """Does tasks with the tools of a toolbox.

    Args:
        dualtune: writes the calls. It also writes the answers where there is no chat model.
        toolbox: the model sees its tools. They are looked up again at every step.
        policy: which calls may run.
        ask: asks the user about one call. Without it, a call that needs the user's word is refused.
        limits: what a run may take.
        chat_model: a second model. It plans before the first call, and it writes the answer.
        dry_run: end at the first call, and execute nothing.
        transcripts: the folder for the transcripts, one for each run; by default ``$DUALTUNE_CACHE/transcripts``.
    """

    def __init__(
        self,
        dualtune: DualTune,
        toolbox: Toolbox,
        policy: ApprovalPolicy,
        ask: Ask = ask_nobody,
        *,
        limits: Limits | None = None,
        chat_model: ChatModel | None = None,
        dry_run: bool = False,
        transcripts: Path | None = None,
    ) -> None:
        self.dualtune, self.toolbox, self.policy, self.ask = dualtune, toolbox, policy, ask
        self.limits, self.chat_model, self.dry_run = limits or Limits(), chat_model, dry_run
        self.transcripts = transcripts or cache_folder() / "transcripts"

    def run(self, task: Messages) -> RunEnded:
        """Do a task: a request as text, or a conversation.

        The returned ``RunEnded`` says how the run ended, also after an error of a tool or at a limit.

        Raises:
            UsageError: when the transcript cannot be written, or the engine is closed.
        """
        *_, ended = self.stream(task)
        assert isinstance(ended, RunEnded)
        return ended

    def stream(self, task: Messages) -> Generator[AgentEvent, None, None]:
        """``run``, event by event; the last one is ``RunEnded``. Close the generator to stop.

        Everything happens in the caller's thread: the model works there, and ``ask`` is called there.
        """
        return run_in_place(self._drive(task, BlockingPerformer))

    async def arun(self, task: Messages) -> RunEnded:
        """``run``, without blocking the event loop; cancelling the task stops the model, and the call at its server."""
        async with aclosing(self.astream(task)) as events:
            *_, ended = [event async for event in events]
        assert isinstance(ended, RunEnded)
        return ended

    def astream(self, task: Messages) -> AsyncGenerator[AgentEvent, None]:
        """``stream`` for asynchronous code; ``ask`` is called in a thread of its own."""
        return self._drive(task, AsyncPerformer)

    async def _drive(self, task: Messages, make_performer: type[Performer]) -> AsyncGenerator[AgentEvent, None]:
        today = machine_date()
        performer = make_performer(self.dualtune, self.toolbox, self.ask, self.chat_model, today)
        with self._begin(task, today) as run:
            for item in run:
                if isinstance(item, Effect):
                    with run.catch_failure():
                        async with aclosing(_perform(item, performer, run)) as events:
                            async for event in events:
                                yield event
                else:
                    yield item

    @contextmanager
    def _begin(self, task: Messages, today: str) -> Iterator[AgentRun]:
        messages, budget, plans = as_messages(task), Budget(self.limits), self.chat_model is not None
        loop = Loop(
            messages,
            policy=self.policy,
            budget=budget,
            visible_tools=lambda: self.toolbox.tools,
            prepare_call=self.toolbox.prepare,
            plans=plans,
            divides=self.dualtune.divides and not plans,
            dry_run=self.dry_run,
        )
        transcript = new_transcript(self.transcripts, messages, self.dualtune, planned=plans, today=today)
        with transcript as recorder, closing(loop.run()) as steps:
            yield AgentRun(steps, recorder=recorder, budget=budget)


class AgentRun:
    """A run on its way: its events, each of them recorded, and its effects.

    Whoever performs an effect sets ``outcome`` before the next step.
    """

    def __init__(self, steps: Steps, *, recorder: Recorder, budget: Budget) -> None:
        self.budget = budget
        self.outcome: object = None
        self._failure: Exception | None = None
        self._steps, self._recorder = steps, recorder

    def __iter__(self) -> AgentRun:
        return self

    def __next__(self) -> AgentEvent | Effect:
        outcome, failure = self.outcome, self._failure
        self.outcome = self._failure = None
        item = self._steps.throw(failure) if failure else self._steps.send(outcome)
        return item if isinstance(item, Effect) else self._recorder.record(item)

    @contextmanager
    def catch_failure(self) -> Iterator[None]:
        """Raise an error of the block in the loop, which knows the errors that it can go on from."""
        try:
            yield
        except Exception as failure:
            self._failure = failure


async def _perform(effect: Effect, performer: Performer, run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Perform an effect, event by event, and set the run's outcome."""
    budget = run.budget
    match effect:
        case Divide() | Choose():
            async with aclosing(performer.write(effect)) as events:
                async for event in events:
                    if isinstance(event, Planned):
                        run.outcome = event
                    elif isinstance(event, Done):
                        run.outcome = event.call
                    else:
                        yield event
                        budget.check_time()
        case Approve(question):
            with budget.pause():
                run.outcome = await performer.approve(question)
        case Execute(prepared):
            try:
                run.outcome = await performer.execute(prepared, budget.seconds_left)
            except TimeoutError as error:
                during = (
                    f" while {prepared.tool.name!r} ran: the call was cancelled, what it did until then is not known"
                )
                raise budget.out_of_time(during) from error
        case Speak(purpose):
            texts = []
            try:
                async with aclosing(performer.speak(effect)) as pieces:
                    async for piece in pieces:
                        texts.append(piece if isinstance(piece, str) else piece.text)
                        budget.tokens += 1
                        yield SpokenText(purpose, texts[-1])
                        budget.check_time()
            except TimeoutError as error:
                raise budget.out_of_time(" before the chat model had written it all") from error
            run.outcome = _to_spoken(effect, "".join(texts), performer.chat_model)


def _to_spoken(effect: Speak, text: str, chat_model: ChatModel | None) -> Spoken:
    if chat_model is None:
        return Spoken(effect.purpose, text.strip(), BASE_MODEL, effect.max_tokens)
    return Spoken(effect.purpose, strip_thoughts(text), chat_model.name, effect.max_tokens)
