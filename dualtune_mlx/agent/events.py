"""What happens in a run, event by event, and the effects that the loop needs its driver to perform."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from dualtune_mlx.engine.events import ArgumentText, Candidates, Planned, StageBegins
from dualtune_mlx.mcp import ApprovalQuestion, PreparedCall
from dualtune_mlx.tools import Message, Tool, ToolCall

BASE_MODEL = "base model"
"""``Spoken.by``, where the base model wrote it."""


@dataclass(frozen=True)
class ToolsChanged:
    """The tools that the model sees from here on."""

    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class CallProposed:
    """The model has written a call, or chosen ``respond``."""

    step: int
    """The number of the call, from 1."""
    call: ToolCall
    subtask: str = ""
    """The part of the task that the call is for; "" is all of it."""


@dataclass(frozen=True)
class ApprovalDecided:
    """Whether a call may run. In a dry run, ``action`` is what would have been done."""

    action: Literal["run", "ask", "refuse"]
    """What is done with the call."""
    by: Literal["configuration", "user", "nobody"]
    """Who decided; "nobody" where the user could not be asked."""
    why: str
    """The reason, for the user."""


@dataclass(frozen=True)
class CallResult:
    """The result of a call, or its failure."""

    text: str
    """What the model is shown."""
    is_error: bool
    """Whether the call failed."""
    seconds: float = 0.0
    """How long the call took at the server."""
    details: str = ""
    """The whole error, for the user."""


@dataclass(frozen=True)
class SpokenText:
    """The next piece of the plan or of the answer."""

    purpose: Literal["plan", "answer"]
    """What is written."""
    text: str
    """The piece."""


@dataclass(frozen=True)
class Spoken:
    """The whole plan or answer."""

    purpose: Literal["plan", "answer"]
    """What was written."""
    text: str
    """All of it."""
    by: str
    """The model that wrote it."""
    max_tokens: int
    """The most tokens that it could have had."""


@dataclass(frozen=True)
class RunEnded:
    """How the run ended; nothing comes after it."""

    reason: str
    """`answered`, `dry run`, or what stopped the run: `steps`, `time`, `tokens`, `repeated` or `failed`."""
    message: str = ""
    """Explains the reason to the user. Of an answered run it names the calls that were chosen again at an end, where
    the model did not choose ``respond``."""
    answer: str = ""
    """The answer in words; empty where there is none."""
    steps: int = 0
    """How many calls were made."""
    tokens: int = 0
    """How many tokens were written."""
    seconds: float = 0.0
    """How long the run took, without the user's answers."""
    transcript: str = ""
    """The path of the transcript."""

    @property
    def succeeded(self) -> bool:
        """Whether nothing stopped the run."""
        return self.reason in ("answered", "dry run")


AgentEvent = (
    StageBegins
    | Candidates
    | ArgumentText
    | ToolsChanged
    | Planned
    | CallProposed
    | ApprovalDecided
    | CallResult
    | SpokenText
    | Spoken
    | RunEnded
)


@dataclass(frozen=True)
class Divide:
    """Divide the task into subtasks. The outcome is a ``Planned``."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class Choose:
    """Write the next call for a subtask ("" is the whole task). The outcome is a ``ToolCall``."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    subtask: str = ""


@dataclass(frozen=True)
class Approve:
    """Ask the user. The outcome is an ``Answer``."""

    question: ApprovalQuestion


@dataclass(frozen=True)
class Execute:
    """Call a tool. The outcome is a ``ToolResult``."""

    prepared: PreparedCall


@dataclass(frozen=True)
class Speak:
    """Write a plan in words or an answer. The outcome is a ``Spoken``."""

    purpose: Literal["plan", "answer"]
    """What is to be written."""
    messages: tuple[Message, ...]
    """The conversation so far."""
    tools: tuple[Tool, ...] = field(repr=False)
    """The visible tools."""
    max_tokens: int
    """The most tokens that it may have."""
    seconds: float = inf
    """The most time for it, in seconds."""


Effect = Divide | Choose | Approve | Execute | Speak
