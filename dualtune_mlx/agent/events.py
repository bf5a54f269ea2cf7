"""What happens in a run, event by event, and what the loop needs from whoever drives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dualtune_mlx.engine.events import ArgumentText, Candidates, Planned, StageBegins
from dualtune_mlx.mcp.approvals import Question
from dualtune_mlx.tools import Message, Tool, ToolCall


@dataclass(frozen=True)
class ToolsChanged:
    """The tools that the model sees from here on."""

    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class CallProposed:
    """The model has written a call, or chosen ``respond``, for a part of the task ("" for all of it)."""

    step: int
    call: ToolCall
    subtask: str = ""


@dataclass(frozen=True)
class ApprovalDecided:
    """Whether a call may run, who decided, and why; with a dry run the action is what would have been done."""

    action: Literal["run", "ask", "refuse"]
    by: Literal["configuration", "user"]
    why: str


@dataclass(frozen=True)
class Result:
    """What a call gave, as the model is shown it, or how it failed; ``details`` is the whole error, for the user."""

    text: str
    is_error: bool
    seconds: float = 0.0
    details: str = ""


@dataclass(frozen=True)
class SpokenText:
    """The next piece of the plan or of the answer."""

    purpose: Literal["plan", "answer"]
    text: str


@dataclass(frozen=True)
class Spoken:
    """The whole plan or answer, who wrote it, and the most tokens that it could have had."""

    purpose: Literal["plan", "answer"]
    text: str
    by: str
    max_tokens: int


@dataclass(frozen=True)
class RunEnded:
    """How the run ended; nothing comes after it.

    ``reason`` is "answered", "dry run", or what stopped it: "steps", "time", "tokens", "repeated" or "failed", which
    ``message`` then explains.
    """

    reason: str
    message: str = ""
    answer: str = ""
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    transcript: str = ""

    @property
    def succeeded(self) -> bool:
        return self.reason in ("answered", "dry run")


AgentEvent = (
    StageBegins
    | Candidates
    | ArgumentText
    | ToolsChanged
    | Planned
    | CallProposed
    | ApprovalDecided
    | Result
    | SpokenText
    | Spoken
    | RunEnded
)


@dataclass(frozen=True)
class Divide:
    """Needed: the parts of the task (``Planned``)."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class Choose:
    """Needed: the next call (a ``ToolCall``) for a part of the task ("" for all of it)."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    subtask: str = ""


@dataclass(frozen=True)
class Approve:
    """Needed: the user's word (an ``Answer``)."""

    question: Question


@dataclass(frozen=True)
class Execute:
    """Needed: what the tool answers (a ``ToolResult``)."""

    call: ToolCall


@dataclass(frozen=True)
class Speak:
    """Needed: a plan or an answer in words, and who wrote it (a ``Spoken``)."""

    purpose: Literal["plan", "answer"]
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = field(repr=False)
    max_tokens: int


Effect = Divide | Choose | Approve | Execute | Speak
