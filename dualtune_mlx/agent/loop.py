"""The agent's loop: call, execute, append, ask again, until ``respond``; for each part of the task, if it has parts.

It is a generator that does nothing itself: it yields events, and needs that whoever drives it meets. So the same loop
runs synchronously, asynchronously, and in tests without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from dualtune_mlx.agent.events import (
    AgentEvent,
    ApprovalDecided,
    Approve,
    CallProposed,
    Choose,
    Divide,
    Effect,
    Execute,
    Result,
    RunEnded,
    Speak,
    Spoken,
    ToolsChanged,
)
from dualtune_mlx.agent.limits import Budget, History, Stop
from dualtune_mlx.engine.events import Planned
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.mcp.approvals import Policy, Question
from dualtune_mlx.mcp.results import ToolResult
from dualtune_mlx.tools import Message, Tool, ToolCall, tool_called
from dualtune_mlx.tools.usage import Usage

Steps = Generator[AgentEvent | Effect, Any, None]
DRY = "dry run"
WOULD = {"run": "it would run", "ask": "you would be asked", "refuse": "it would be refused"}


class Loop:
    """One run.

    Args:
        messages: the conversation so far; its last message is the task.
        policy: which calls may run.
        watch: the limits.
        visible: the tools of now.
        whole: a call as it would be sent, its arguments checked; raises a ``DualTuneError`` where it may not be.
        planned: whether there is to be a plan in words first.
        divided: whether the task is to be divided into parts first.
        dry: end at the first call instead of making it.
    """

    def __init__(
        self,
        messages: tuple[Message, ...],
        policy: Policy,
        watch: Budget,
        visible: Callable[[], tuple[Tool, ...]],
        whole: Callable[[ToolCall], ToolCall],
        planned: bool = False,
        divided: bool = False,
        dry: bool = False,
    ) -> None:
        self.messages, self.policy, self.watch = messages, policy, watch
        self._visible, self._whole, self._planned, self._divided, self._dry = visible, whole, planned, divided, dry
        self._tools: tuple[Tool, ...] = ()
        self._history = History()
        self._always: list[tuple[Tool, Any]] = []
        self._failed = False

    def run(self) -> Steps:
        """The run, to its ``RunEnded``."""
        ended = RunEnded("answered")
        try:
            answer = yield from self._to_the_answer()
            ended = RunEnded("answered", answer=answer)
        except Stop as stop:
            ended = RunEnded(stop.reason, stop.message)
        except DualTuneError as error:  # of the model's or a planner's: no call is there that it could be told of
            ended = RunEnded("failed", str(error))
        watch = self.watch
        yield RunEnded(ended.reason, ended.message, ended.answer, watch.steps, watch.tokens, watch.seconds)

    def _to_the_answer(self) -> Generator[AgentEvent | Effect, Any, str]:
        yield from self._look()
        if self._planned:
            plan = yield from self._speak("plan")
            self.messages += (Message("assistant", plan),)
        for subtask in (yield from self._parts()):
            yield from self._do(subtask)
            if self._failed:  # what follows may need what could not be done
                break
        self.watch.check()
        return (yield from self._speak("answer"))

    def _parts(self) -> Generator[AgentEvent | Effect, Any, tuple[str, ...]]:
        """What is to be done one after the other; "" is the whole task."""
        if not self._divided:
            return ("",)
        self.watch.check()
        planned: Planned = yield Divide(self.messages, self._tools)
        self._count(planned.usage)
        yield planned
        return planned.subtasks or ("",)

    def _do(self, subtask: str) -> Generator[AgentEvent | Effect, Any, None]:
        """Calls for a part of the task, until the model chooses ``respond``."""
        while True:
            self.watch.check()
            chosen: ToolCall = yield Choose(self.messages, self._tools, subtask)
            self._count(chosen.usage)
            yield CallProposed(self.watch.steps + 1, chosen, subtask)
            if chosen.is_respond:
                return
            self.watch.check_steps()
            call = ToolCall(chosen.name, chosen.arguments, chosen.server)
            self._history.add(call)
            self.watch.steps += 1
            result = yield from self._made(call)
            yield result
            self.messages += (Message("assistant", tool_calls=(call,), subtask=subtask), Message("tool", result.text))
            if result.is_error and self._failed:
                raise Stop(
                    "failed", f"two calls in a row failed; the last, {call.server}/{call.name}: {result.details}"
                )
            self._failed = result.is_error
            yield from self._look()

    def _count(self, usage: Usage) -> None:
        self.watch.tokens += usage.decoded_tokens + usage.forced_tokens

    def _look(self) -> Generator[AgentEvent, Any, None]:
        tools = self._visible()
        if tools != self._tools:
            self._tools = tools
            yield ToolsChanged(tools)

    def _speak(self, purpose: Any) -> Generator[AgentEvent | Effect, Any, str]:
        spoken: Spoken = yield Speak(purpose, self.messages, self._tools, self.watch.answer_tokens)
        yield spoken
        return spoken.text

    def _made(self, call: ToolCall) -> Generator[AgentEvent | Effect, Any, Result]:
        """A call's result; a failure is one too, as is a refusal."""
        try:
            tool = tool_called(call, self._tools)
            whole = self._whole(call)
            if refusal := (yield from self._refused(whole, tool)):
                return Result(refusal, True, details=refusal)
            result: ToolResult = yield Execute(call)
        except DualTuneError as error:
            return Result(f"Error: {error.what}", True, details=str(error))
        text = result.for_model(self.watch.limits.result_characters)
        return Result(text, result.is_error, result.seconds, text if result.is_error else "")

    def _refused(self, whole: ToolCall, tool: Tool) -> Generator[AgentEvent | Effect, Any, str]:
        """Why a call may not run; nothing where it may."""
        verdict = self.policy.verdict(tool)
        if self._dry:
            yield ApprovalDecided(verdict.action, "configuration", verdict.why)
            raise Stop(DRY, f"nothing was executed; {WOULD[verdict.action]}: {verdict.why}")
        # "Always" was said of this very tool: if its server changes it, the user is asked again.
        if verdict.action == "ask" and (tool, tool.annotations) in self._always:
            yield ApprovalDecided("run", "user", "always, said the user of this tool")
        elif verdict.action == "ask":
            answer = yield Approve(Question(whole, tool, verdict.why))
            if answer == "always":
                self._always.append((tool, tool.annotations))
            if answer not in ("yes", "always"):
                yield ApprovalDecided("refuse", "user", verdict.why)
                return "Error: the user did not allow this call."
            yield ApprovalDecided("run", "user", verdict.why)
        else:
            yield ApprovalDecided(verdict.action, "configuration", verdict.why)
            if verdict.action == "refuse":
                return f"Error: this call is not allowed: {verdict.why}."
        return ""
