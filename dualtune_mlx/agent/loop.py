"""The agent's loop: call, execute, append, ask again, until ``respond``; for each subtask of the task, if it has any.

Adapters that never saw a result do not choose ``respond`` after one, but the same call again. After a call that
succeeded, the same call is therefore an end too.

The loop is a generator that does nothing itself. It yields events, and effects that its driver performs. So the same
loop runs synchronously, asynchronously, and in tests without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Literal, TypeVar

from dualtune_mlx.agent.events import (
    AgentEvent,
    ApprovalDecided,
    Approve,
    CallProposed,
    CallResult,
    Choose,
    Divide,
    Effect,
    Execute,
    RunEnded,
    Speak,
    Spoken,
    ToolsChanged,
)
from dualtune_mlx.agent.limits import Budget, History, Stop
from dualtune_mlx.engine.events import Planned
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.mcp import ApprovalPolicy, ApprovalQuestion, PreparedCall, ToolResult
from dualtune_mlx.tools import Message, Tool, ToolCall, find_called_tool
from dualtune_mlx.tools.usage import Usage

T = TypeVar("T")
Steps = Generator[AgentEvent | Effect, Any, T]
"""Events and effects; the outcome of each effect is sent back. At the end a value is returned."""
UNASKED = "nobody was asked, for there is no terminal or other way to ask"
WAY_OUT = "to let it run unasked, name the tool in 'allow' in its server's 'dualtune' entry of the MCP configuration"
DRY_RUN = "dry run"
DRY_RUN_SAYS = {"run": "it would run", "ask": "you would be asked", "refuse": "it would be refused"}


class Loop:
    """One run.

    Args:
        messages: the conversation so far; its last message is the task.
        policy: which calls may run.
        budget: counts what the run takes, and ends it at a limit.
        visible_tools: returns the tools that the model may see now.
        prepare_call: returns a call as it would be sent, its arguments checked; raises a ``DualTuneError`` where it
            may not be sent.
        plans: write a plan in words first.
        divides: divide the task into subtasks first.
        dry_run: end at the first call instead of making it.
    """

    def __init__(
        self,
        messages: tuple[Message, ...],
        *,
        policy: ApprovalPolicy,
        budget: Budget,
        visible_tools: Callable[[], tuple[Tool, ...]],
        prepare_call: Callable[[ToolCall], PreparedCall],
        plans: bool = False,
        divides: bool = False,
        dry_run: bool = False,
    ) -> None:
        self.messages, self.policy, self.budget = messages, policy, budget
        self._visible_tools, self._prepare_call = visible_tools, prepare_call
        self._plans, self._divides, self._dry_run = plans, divides, dry_run
        self._tools: tuple[Tool, ...] = ()
        self._history = History()
        self._always: list[Tool] = []
        self._failed = False
        self._repeated: list[str] = []

    def run(self) -> Steps[None]:
        """Run to the end; the last event is ``RunEnded``."""
        reason, message, answer = "answered", "", ""
        try:
            answer = yield from self._run_task()
            if self._repeated:
                message = f"chosen again after it had succeeded, and taken as the end: {', '.join(self._repeated)}"
        except Stop as stop:
            reason, message = stop.reason, stop.message
        except DualTuneError as error:  # from writing a call, a plan or an answer: there is no call to report it to
            reason, message = "failed", str(error)
        budget = self.budget
        yield RunEnded(reason, message, answer, budget.steps, budget.tokens, budget.seconds)

    def _run_task(self) -> Steps[str]:
        """Do the task; the answer."""
        yield from self._refresh_tools()
        if self._plans:
            plan = yield from self._speak("plan")
            self.messages += (Message("assistant", plan),)
        for subtask in (yield from self._divide()):
            yield from self._run_subtask(subtask)
            if self._failed:  # what follows may need what could not be done
                break
        self.budget.check()
        return (yield from self._speak("answer"))

    def _divide(self) -> Steps[tuple[str, ...]]:
        """The subtasks, in their order; "" is the whole task."""
        if not self._divides:
            return ("",)
        self.budget.check()
        planned: Planned = yield Divide(self.messages, self._tools)
        self._count(planned.usage)
        yield planned
        return planned.subtasks or ("",)

    def _run_subtask(self, subtask: str) -> Steps[None]:
        """Make calls for a subtask, until the model chooses ``respond``, or again the call that has just succeeded."""
        done: ToolCall | None = None
        while True:
            self.budget.check()
            if not self._tools and not self.budget.steps:
                raise Stop("failed", "no server has a tool: they are down, or offer none")
            if not self._tools:  # the servers of the last calls are down: what is known is answered
                return
            choice: ToolCall = yield Choose(self.messages, self._tools, subtask)
            self._count(choice.usage)
            yield CallProposed(self.budget.steps + 1, choice, subtask)
            if choice.is_respond:
                return
            call = ToolCall(choice.name, choice.arguments, choice.server)
            if call == done:
                self._repeated.append(f"{call.server}/{call.name}")
                return
            self.budget.check_steps()
            self._history.add(call)
            self.budget.steps += 1
            result = yield from self._make_call(call)
            yield result
            self.messages += (Message("assistant", tool_calls=(call,), subtask=subtask), Message("tool", result.text))
            if result.is_error and self._failed:
                raise Stop(
                    "failed", f"two calls in a row failed; the last, {call.server}/{call.name}: {result.details}"
                )
            self._failed = result.is_error
            done = None if result.is_error else call
            yield from self._refresh_tools()

    def _count(self, usage: Usage) -> None:
        self.budget.tokens += usage.decoded_tokens + usage.forced_tokens

    def _refresh_tools(self) -> Steps[None]:
        tools = self._visible_tools()
        if tools != self._tools:
            self._tools = tools
            yield ToolsChanged(tools)

    def _speak(self, purpose: Literal["plan", "answer"]) -> Steps[str]:
        budget = self.budget
        spoken: Spoken = yield Speak(purpose, self.messages, self._tools, budget.answer_tokens, budget.seconds_left)
        yield spoken
        return spoken.text

    def _make_call(self, call: ToolCall) -> Steps[CallResult]:
        """Make a call; its result. A failure is a result too, and so is a refusal."""
        try:
            find_called_tool(call, self._tools)
            prepared = self._prepare_call(call)
            if refusal := (yield from self._decide(prepared)):
                return CallResult(refusal, True, details=refusal)
            result: ToolResult = yield Execute(prepared)
        except DualTuneError as error:
            return CallResult(f"Error: {error.what}", True, details=str(error))
        text = result.for_model(self.budget.limits.result_characters)
        return CallResult(text, result.is_error, result.seconds, text if result.is_error else "")

    def _decide(self, prepared: PreparedCall) -> Steps[str]:
        """Decide whether a call may run; "", or why it may not."""
        verdict = self.policy.verdict(prepared.tool)
        if self._dry_run:
            yield ApprovalDecided(verdict.action, "configuration", verdict.why)
            raise Stop(DRY_RUN, f"nothing was executed; {DRY_RUN_SAYS[verdict.action]}: {verdict.why}")
        if verdict.action == "ask":
            return (yield from self._ask(prepared, verdict.why))
        yield ApprovalDecided(verdict.action, "configuration", verdict.why)
        return f"Error: this call is not allowed: {verdict.why}." if verdict.action == "refuse" else ""

    def _ask(self, prepared: PreparedCall, why: str) -> Steps[str]:
        # "Always" was said of this very tool: if its server changes it, the user is asked again.
        if any(map(prepared.tool.is_same, self._always)):
            yield ApprovalDecided("run", "user", "always, said the user of this tool")
            return ""
        answer = yield Approve(ApprovalQuestion(prepared.call, prepared.tool, why))
        if answer == "always":
            self._always.append(prepared.tool)
        if answer == "nobody":
            yield ApprovalDecided("refuse", "nobody", f"{why}; {UNASKED}; {WAY_OUT}")
            return f"Error: this call needs the user's approval: {UNASKED}."
        if answer not in ("yes", "always"):
            yield ApprovalDecided("refuse", "user", why)
            return "Error: the user did not allow this call."
        yield ApprovalDecided("run", "user", why)
        return ""
