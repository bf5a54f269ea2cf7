"""Messages and trajectories: plain frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import DataError
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

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DataError("a message has an unknown role", got=self.role, expected=", ".join(ROLES))
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

        Raises:
            DataError: when it is not a message.
        """
        if not isinstance(value, Mapping):
            raise DataError("a message is not a JSON object", got=type(value).__name__)
        listed = value.get("tool_calls") or []
        if not isinstance(listed, Sequence):
            raise DataError("a message's tool_calls are not a list", got=type(listed).__name__)
        calls = tuple(ToolCall.from_dict(call) for call in listed)
        parts = value.get("parts") or []
        if not isinstance(parts, list | tuple):
            raise DataError("a request's parts are not a list", got=type(parts).__name__)
        return cls(
            str(value.get("role")), _read_content(value.get("content")), calls, tuple(parts), value.get("part") or ""
        )

    def to_dict(self) -> dict[str, Any]:
        """The message in OpenAI's form, with ``parts`` and ``part`` beside its content."""
        beside = {
            "tool_calls": [call.to_dict() for call in self.tool_calls],
            "parts": list(self.subtasks),
            "part": self.subtask,
        }
        return {"role": self.role, "content": self.content, **{key: item for key, item in beside.items() if item}}


def _read_content(content: Any) -> Any:
    """The text of OpenAI-style content: a string, null, or a list of text parts. Anything else is left as it is."""
    if content is None:
        return ""
    if isinstance(content, Sequence) and not isinstance(content, str):
        if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content):
            raise DataError("a message has content that is not text", got=content, expected="text parts only")
        return "".join(part["text"] for part in content)
    return content


@dataclass(frozen=True)
class Trajectory:
    """A conversation with the tools that were visible in it. Every call in it is an example."""

    messages: tuple[Message, ...]
    """The conversation, with its calls and their results."""
    tools: tuple[Tool, ...]
    """The visible tools."""
    name: str = field(default="", compare=False)
    """Where the conversation came from; errors name it."""

    def to_dict(self, with_tools: bool = True) -> dict[str, Any]:
        """The trajectory as a line of a data file."""
        tools = {"tools": [tool.to_dict() for tool in self.tools]} if with_tools else {}
        return {"messages": [message.to_dict() for message in self.messages], **tools}


def as_messages(messages: str | Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages that may be given as dictionaries, or as the text of one request.

    Raises:
        DataError: when a dictionary is not a message.
    """
    if isinstance(messages, str):
        return (Message("user", messages),)
    return tuple(m if isinstance(m, Message) else Message.from_dict(m) for m in messages)
