"""Messages and trajectories: plain frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.tools.today import check_today
from dualtune_mlx.tools.types import Tool, ToolCall

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Raises:
        DataError: when the role is unknown, a content is not text, or a field stands at the wrong message.
    """

    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""
    content: str = ""
    """The message's text."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls of an assistant message."""
    subtasks: tuple[str, ...] = ()
    """The subtasks of a request, in order (``parts`` in data files)."""
    subtask: str = ""
    """The subtask that the calls are for (``part`` in data files); "" is the whole request."""
    weight: int = 1
    """0 where the message is context alone: its calls, its answer or its plan are not learned."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DataError("a message has an unknown role", got=self.role, expected=", ".join(ROLES))
        if self.tool_calls and self.role != "assistant":
            raise DataError("a call stands at the wrong message", where=f"role {self.role}", expected="role assistant")
        if not isinstance(self.content, str):
            raise DataError(
                "a message's content is not text", where=f"role {self.role}", got=type(self.content).__name__
            )
        if not all(isinstance(part, str) for part in (*self.subtasks, self.subtask)):
            raise DataError(
                "a part of a request is not text", where=f"role {self.role}", got=(*self.subtasks, self.subtask)
            )
        if (self.subtasks and self.role != "user") or (self.subtask and not self.tool_calls):
            raise DataError(
                "a part of a request stands at the wrong message",
                where=f"role {self.role}",
                got=self.subtask or self.subtasks,
                expected='"parts" at the request, "part" at a message with tool_calls',
            )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Message:
        """Read an OpenAI-style message, with ``parts`` and ``part`` beside its content.

        A call may stand in ``tool_calls`` or, as before these, in ``function_call``, with its result in a message of
        the role ``function``.

        Raises:
            DataError: when it is not a message.
        """
        if not isinstance(value, Mapping):
            raise DataError("a message is not a JSON object", got=type(value).__name__)
        parts = value.get("parts") or []
        if not isinstance(parts, list | tuple):
            raise DataError("a request's parts are not a list", got=type(parts).__name__)
        role = "tool" if value.get("role") == "function" else str(value.get("role"))
        return cls(
            role=role,
            content=_read_content(value.get("content")),
            tool_calls=_read_calls(value),
            subtasks=tuple(parts),
            subtask=value.get("part") or "",
            weight=read_weight(value),
        )

    def to_dict(self) -> dict[str, Any]:
        """The message in OpenAI's form, with ``parts`` and ``part`` beside its content."""
        beside = {
            "tool_calls": [call.to_dict() for call in self.tool_calls],
            "parts": list(self.subtasks),
            "part": self.subtask,
        }
        weight = {} if self.weight else {"weight": 0}
        own = {key: item for key, item in beside.items() if item}
        return {"role": self.role, "content": self.content, **own, **weight}


def read_weight(value: Mapping[str, Any]) -> int:
    """The ``weight`` of a message or of a line of data: 1 where there is none.

    Raises:
        DataError: when it is neither 0 nor 1.
    """
    weight = value.get("weight")
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise DataError(
            "a weight is neither 0 nor 1",
            got=repr(weight),
            expected="0 (context alone) or 1 (learned)",
            fix="round it: a message is learned or it is not",
        )
    return int(weight)


def _read_calls(value: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    listed = value.get("tool_calls") or []
    if not isinstance(listed, Sequence):
        raise DataError("a message's tool_calls are not a list", got=type(listed).__name__)
    legacy = value.get("function_call")
    if legacy is not None:
        if listed:
            raise DataError(
                "a message has both tool_calls and function_call", fix="leave function_call out: it is the older form"
            )
        listed = [legacy]
    return tuple(ToolCall.from_dict(call) for call in listed)


def _read_content(content: Any) -> Any:
    """The text of OpenAI-style content: a string, null, or a list of text parts. Anything else is left as it is."""
    if content is None:
        return ""
    if isinstance(content, Sequence) and not isinstance(content, str):
        for other in (part for part in content if not _is_text(part)):
            raise DataError(
                "a message has content that is not text",
                got=f"a part of type {other.get('type')!r}" if isinstance(other, Mapping) else type(other).__name__,
                expected='parts of {"type": "text", "text": …}',
                fix="write a call into the message's tool_calls, and leave out what is no text",
            )
        return "".join(part["text"] for part in content)
    return content


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


@dataclass(frozen=True)
class Trajectory:
    """A conversation with the tools that were visible in it. Every call in it is an example.

    Raises:
        DataError: when ``today`` is not a date.
    """

    messages: tuple[Message, ...]
    """The conversation, with its calls and their results."""
    tools: tuple[Tool, ...]
    """The visible tools."""
    name: str = field(default="", compare=False)
    """Where the conversation came from; errors name it."""
    today: str = ""
    """The date of the conversation (2026-11-30); empty where it is not known."""

    def __post_init__(self) -> None:
        check_today(self.today, DataError)

    def to_dict(self, with_tools: bool = True) -> dict[str, Any]:
        """The trajectory as a line of a data file."""
        tools = {"tools": [tool.to_dict() for tool in self.tools]} if with_tools else {}
        today = {"today": self.today} if self.today else {}
        return {"messages": [message.to_dict() for message in self.messages], **tools, **today}


def as_messages(messages: str | Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages that may be given as dictionaries, or as the text of one request.

    Raises:
        DataError: when a dictionary is not a message.
    """
    if isinstance(messages, str):
        return (Message("user", messages),)
    return tuple(m if isinstance(m, Message) else Message.from_dict(m) for m in messages)
