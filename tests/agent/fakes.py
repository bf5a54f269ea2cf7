"""An engine and a toolbox that do what they are told."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from dualtune_mlx.agent import Agent
from dualtune_mlx.decoding import Decoding
from dualtune_mlx.engine.events import AnswerText, ArgumentText, Candidates, Done, Planned, StageBegins
from dualtune_mlx.mcp import ApprovalPolicy, PreparedCall, ServerConfig, ToolResult
from dualtune_mlx.tools import RESPOND, Tool, ToolCall
from dualtune_mlx.tools.changes import ToolChanges
from dualtune_mlx.tools.usage import StageUsage, Usage

READ_ONLY, DESTRUCTIVE = {"readOnlyHint": True}, {"destructiveHint": True}
READ = Tool("read", "Read.", {"type": "object", "properties": {"path": {"type": "string"}}}, "fs", READ_ONLY)
WRITE = Tool("write", "Write.", READ.parameters, "fs", {"destructiveHint": False})
DELETE = Tool("delete", "Delete.", READ.parameters, "fs", DESTRUCTIVE)
TOOLS = (READ, WRITE, DELETE)
RESPONDS = ToolCall("respond")


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments, "fs")


class Engine:
    """Makes the scripted calls, then responds; ``asked`` are the conversations that it was given.

    With ``subtasks`` it divides every task into them.
    """

    bundle, decoding, routing, tells_date = None, Decoding(), "auto", False
    changes: ToolChanges | None = None

    def __init__(
        self, *calls: ToolCall | Exception, answer: str = "Done.", subtasks: tuple[str, ...] | None = None
    ) -> None:
        self.subtasks, self.divides, self.due = subtasks or (), subtasks is not None, list[str]()
        self.dates = list[str]()
        self.base = SimpleNamespace(name="fake", fingerprint="f")
        self.calls, self.words = iter(calls), answer
        self.asked: list[Any] = []
        self.closed = 0

    def compare_tools(self, tools: Any) -> ToolChanges | None:
        return self.changes

    def stream(
        self, messages: Any, tools: Any, subtask: str = "", today: str = "", **_: Any
    ) -> Generator[Any, None, None]:
        self.asked.append(messages)
        self.due.append(subtask)
        self.dates.append(today)
        made = next(self.calls, RESPONDS)
        if isinstance(made, Exception):
            raise made
        try:
            tool = next((tool for tool in tools if tool.name == made.name), RESPOND)
            yield StageBegins("selector")
            yield Candidates(((tool, 0.9), (RESPOND, 0.1)))
            yield ArgumentText("{}")
            usage = Usage({"selector": StageUsage(decoded_tokens=10)})
            ranked = ((tool, 0.9), (RESPOND, 0.1))
            yield Done(replace(made, confidence=0.9, candidates=ranked, usage=usage))
        finally:
            self.closed += 1

    def planning(self, messages: Any, tools: Any) -> Generator[Any, None, None]:
        yield StageBegins("planner")
        yield Planned(self.subtasks, Usage({"planner": StageUsage(decoded_tokens=5)}))

    async def aplanning(self, *args: Any) -> Any:
        for event in self.planning(*args):
            yield event

    def plan(self, messages: Any, tools: Any) -> tuple[str, ...]:
        return self.subtasks

    def call(self, messages: Any, tools: Any, **options: Any) -> ToolCall:
        *_, done = self.stream(messages, tools, **options)
        return done.call

    async def astream(self, *args: Any, **options: Any) -> Any:
        for event in self.stream(*args, **options):
            yield event

    def answer(self, messages: Any, max_tokens: int) -> Generator[AnswerText, None, None]:
        self.asked.append(messages)
        for word in self.words.split(" ")[:max_tokens]:
            yield AnswerText(word + " ")

    async def aanswer(self, *args: Any, **options: Any) -> Any:
        for event in self.answer(*args, **options):
            yield event


class FakeToolbox:
    """Executes by a function of the call; ``executed`` are the calls that got that far."""

    def __init__(self, does: Callable[[ToolCall], Any] = lambda call: "fine", tools: Any = TOOLS) -> None:
        self.does, self.tools = does, tuple(tools)
        self.executed: list[ToolCall] = []

    def prepare(self, call: ToolCall) -> PreparedCall:
        tool = next(one for one in self.tools if one.name == call.name)
        return PreparedCall(ToolCall(call.name, {**call.arguments, "pin": "ned"}, "fs"), tool)

    def execute(self, prepared: PreparedCall, approved: bool = False, timeout: float | None = None) -> ToolResult:
        sent = dict(prepared.call.arguments)
        assert sent.pop("pin") == "ned"
        call = ToolCall(prepared.call.name, sent, "fs")
        self.executed.append(call)
        given = self.does(call)
        if isinstance(given, BaseException):
            raise given
        if isinstance(given, ToolResult):
            return given
        return ToolResult("fs", call.name, ({"type": "text", "text": given},), given, None, False, 0.5)

    async def aexecute(
        self, prepared: PreparedCall, approved: bool = False, timeout: float | None = None
    ) -> ToolResult:
        return self.execute(prepared, approved, timeout)


def error(text: str) -> ToolResult:
    return ToolResult("fs", "read", ({"type": "text", "text": text},), text, None, True, 0.1)


def config(**fields: Any) -> ServerConfig:
    return ServerConfig("fs", "fs", **fields)


def agent(engine: Any, toolbox: Any, tmp_path: Any, approve: str = "auto", ask: Any = None, **more: Any) -> Agent:
    policy = ApprovalPolicy([more.pop("config", config())], approve)
    return Agent(engine, toolbox, policy, *([ask] if ask else []), transcripts=tmp_path, **more)
