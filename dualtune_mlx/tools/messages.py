"""Messages and trajectories: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dualtune_mlx.errors import DataError
from dualtune_mlx.tools.today import check_today
from dualtune_mlx.tools.types import Tool, ToolCall, as_mapping, is_unicode

ROLES = ("system", "user", "assistant", "tool")
OTHER_ROLES = {"developer": "system", "function": "tool"}
"""OpenAI's other words for roles, and ours."""


class ClientMessage(Protocol):
    """A message as an object of a client library. It may have ``tool_calls`` and ``tool_call_id`` too."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> Any: ...


@dataclass(frozen=True)
class Message:
    """One message of a conversation.

    Raises:
        DataError: when the role is unknown, a content is not text, or a field stands at the wrong message.
    """

    role: str
    """``system`` (or ``developer``), ``user``, ``assistant`` or ``tool`` (or ``function``)."""
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
    tool_call_id: str = ""
    """The id of the call that a message of role ``tool`` is the result of; "" where it is not given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", OTHER_ROLES.get(self.role, self.role))
        if self.role not in ROLES:
            raise DataError("a message has an unknown role", got=self.role, expected=", ".join((*ROLES, *OTHER_ROLES)))
        if self.tool_calls and self.role != "assistant":
            raise DataError("a call stands at the wrong message", where=f"role {self.role}", expected="role assistant")
        self._check_content()
        if self.tool_call_id and self.role != "tool":
            raise DataError(
                "a tool call's id stands at the wrong message",
                where=f"role {self.role}",
                got=self.tool_call_id,
                expected="tool_call_id at a message of role 'tool', which is the call's result",
            )
        if not all(isinstance(part, str) for part in (*self.subtasks, self.subtask)):
            raise DataError(
                "a part of a request is not text",
                where=f"role {self.role}",
                got=(*self.subtasks, self.subtask),
                fix='write "parts" as a list of texts, and "part" as one of them',
            )
        if (self.subtasks and self.role != "user") or (self.subtask and not self.tool_calls):
            raise DataError(
                "a part of a request stands at the wrong message",
                where=f"role {self.role}",
                got=self.subtask or self.subtasks,
                expected='"parts" at the request, "part" at a message with tool_calls',
            )

    def _check_content(self) -> None:
        if not isinstance(self.content, str):
            raise DataError(
                "a message's content is not text",
                where=f"role {self.role}",
                got=type(self.content).__name__,
                fix="give a string, or a list of text parts",
            )
        if not is_unicode(self.content):
            raise DataError(
                "a message's content is not Unicode text",
                where=f"role {self.role}",
                got="half of a surrogate pair",
                fix="mend the text where it is decoded: it may not have been UTF-8",
            )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | ClientMessage) -> Message:
        """Read an OpenAI-style message, with ``parts`` and ``part`` beside its content.

        It may also be an object of a client library that has these fields as attributes. The role ``developer`` is
        ``system``, and a ``refusal`` is what the assistant said. A call may stand in ``tool_calls`` or, as before
        these, in ``function_call``, with its result in a message of the role ``function``.

        Raises:
            DataError: when it is not a message.
        """
        given = as_mapping(value, ("role", "content"), ("tool_calls", "function_call", "refusal", "tool_call_id"))
        if given is None:
            raise DataError(
                "a message is not a JSON object", got=type(value).__name__, expected="{'role': …, 'content': …}"
            )
        parts, part = given.get("parts"), given.get("part")
        parts = [] if parts is None else parts
        if not isinstance(parts, list | tuple):
            raise DataError(
                "a request's parts are not a list", got=type(parts).__name__, expected="a list of words of the request"
            )
        role, calls = str(given.get("role")), _read_calls(given)
        content = given.get("refusal") if given.get("content") is None else given["content"]
        if content is None and not calls:
            raise DataError(
                "a message has no content",
                where=f"role {role}",
                fix='write its text as "content"; a result without text is ""',
            )
        return cls(
            role=role,
            content=_read_content(content),
            tool_calls=calls,
            subtasks=tuple(parts),
            subtask="" if part is None else part,
            weight=read_weight(given),
            tool_call_id="" if given.get("tool_call_id") is None else str(given["tool_call_id"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """The message in OpenAI's form, with ``parts`` and ``part`` beside its content."""
        value = self.to_data()
        if self.tool_calls:
            value["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        return {**value, "tool_call_id": self.tool_call_id} if self.tool_call_id else value

    def to_data(self) -> dict[str, Any]:
        """The message as data files and transcripts have it: its calls without ids, their arguments as objects."""
        beside = {
            "tool_calls": [call.to_data() for call in self.tool_calls],
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


def _read_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    listed = message.get("tool_calls") or []
    if not isinstance(listed, list | tuple):
        raise DataError(
            "a message's tool_calls are not a list", got=type(listed).__name__, expected="a list of tool calls"
        )
    legacy = message.get("function_call")
    if legacy is not None:
        if listed:
            raise DataError(
                "a message has both tool_calls and function_call", fix="leave function_call out: it is the older form"
            )
        listed = [legacy]
    return tuple(call if isinstance(call, ToolCall) else ToolCall.from_dict(call) for call in listed)


def _read_content(content: Any) -> Any:
    """The text of OpenAI-style content: a string, null, or a list of text parts. Anything else is left as it is."""
    if content is None:
        return ""
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        return "".join(map(_read_part, content))
    return content


def _read_part(part: object) -> str:
    value = as_mapping(part, ("type", "text"))
    text = value.get("text") if value is not None and value.get("type", "text") == "text" else None
    if not isinstance(text, str):
        raise DataError(
            "a message has content that is not text",
            got=f"a part of type {value.get('type')!r}" if value is not None else type(part).__name__,
            expected='parts of {"type": "text", "text": …}',
            fix="write a call into the message's tool_calls, and leave out what is no text",
        )
    return text


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
        return {"messages": [message.to_data() for message in self.messages], **tools, **today}
