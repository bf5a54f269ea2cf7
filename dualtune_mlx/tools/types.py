"""Tools, calls, messages and trajectories: plain frozen data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import DataError, DualTuneError, ToolError
from dualtune_mlx.tools.usage import Usage

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Tool:
    """A tool that can be called by a model.

    Raises:
        ToolError: when it has no name, or its parameters are not a JSON Schema object.
    """

    name: str
    """The tool's name at its server."""
    description: str = ""
    """What the tool does, in the server's words."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(NO_PARAMETERS))
    """The JSON Schema of the arguments."""
    server: str = ""
    """The MCP server that offers the tool; "" where there is none."""
    annotations: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """MCP's hints (``readOnlyHint``, ``destructiveHint``, …) as the server claims them; kept in memory only."""
    group: str = ""
    """The group of the server's tools that the user put the tool in; "" for no group."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ToolError("a tool has no name", got=repr(self.name), expected="a non-empty string")
        if not isinstance(self.parameters, Mapping):
            raise ToolError(
                "a tool's parameters are not a JSON Schema object",
                where=f"tool {self.name!r}",
                got=type(self.parameters).__name__,
                expected="an object such as {'type': 'object', 'properties': {…}}",
            )
        for key, kind, expected in (("properties", Mapping, "an object"), ("required", list | tuple, "a list")):
            if key in self.parameters and not isinstance(self.parameters[key], kind):
                raise ToolError(
                    f"a tool's parameters are not a valid JSON Schema: {key!r}",
                    where=f"tool {self.name!r}",
                    got=repr(self.parameters[key]),
                    expected=expected,
                )

    @property
    def takes_arguments(self) -> bool:
        """Whether a call has arguments to write. Those of a tool without parameters cost no forward pass."""
        schema = self.parameters
        open_ended = set(schema) - {"type", "properties", "required", "title", "description", "$schema"}
        return bool(schema.get("properties")) or bool(open_ended - {"additionalProperties"})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], server: str = "") -> Tool:
        """Read a tool in OpenAI's form, in MCP's form (``inputSchema``), or in the form of ``to_dict``.

        Raises:
            ToolError: when the value has none of these forms.
        """
        if not isinstance(value, Mapping):
            raise ToolError("a tool is not a JSON object", got=type(value).__name__)
        body = value.get("function", value)
        if not isinstance(body, Mapping):
            raise ToolError("a tool's 'function' is not a JSON object", got=type(body).__name__)
        schema = next((body[k] for k in ("parameters", "inputSchema", "input_schema") if body.get(k)), NO_PARAMETERS)
        name = body.get("name")
        return cls(
            name=name if isinstance(name, str) else "",
            description=str(body.get("description") or ""),
            parameters=schema,
            server=str(value.get("server") or body.get("server") or server),
            group=str(value.get("group") or body.get("group") or ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """The tool in OpenAI's form, with ``server`` and ``group`` beside ``function``."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        beside = {"server": self.server, "group": self.group}
        return {"type": "function", "function": function, **{key: value for key, value in beside.items() if value}}


RESPOND = Tool("respond", "No tool is needed: answer the user directly.")
"""The pseudo-tool whose call is an answer in words."""

LONGEST_PLAN = 8
"""Subtasks of a request at most, so that a small model that repeats itself comes to an end."""

PLAN = Tool(
    "plan",
    "Divide the request into the parts that are to be done one after the other.",
    {
        "type": "object",
        "properties": {"parts": {"type": "array", "items": {"type": "string"}, "maxItems": LONGEST_PLAN}},
        "required": ["parts"],
        "additionalProperties": False,
    },
)
"""The pseudo-tool whose arguments are a plan: the subtasks of a request, in order. A request that is one as a whole
has none."""


@dataclass(frozen=True)
class ToolServer:
    """An MCP server and the tools it offers."""

    name: str
    """The server's name."""
    tools: tuple[Tool, ...] = ()
    """Its tools, in its order."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool with its arguments, or of ``respond``. Where the engine abstained there is no call."""

    name: str
    """The tool's name; "" where the engine abstained."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments by name."""
    server: str = ""
    """The server of the tool; empty where it is not given."""
    confidence: float | None = None
    """The exact probability of the best candidate; a call that no engine made has none."""
    candidates: tuple[tuple[Tool, float], ...] = ()
    """The most probable tools with their probabilities, best first."""
    usage: Usage | None = None
    """What the call cost; a call that no engine made has none."""

    @property
    def is_respond(self) -> bool:
        """Whether the call is an answer in words."""
        return self.name == RESPOND.name

    @property
    def abstained(self) -> bool:
        """Whether the best candidate was too improbable for a call."""
        return not self.name

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ToolCall:
        """Read an OpenAI-style ``tool_calls`` entry; ``arguments`` may be JSON text or an object.

        Raises:
            DataError: when it has no name, or its arguments are not a JSON object.
        """
        body = value.get("function", value) if isinstance(value, Mapping) else None
        if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
            raise DataError("a tool call has no name", got=value, expected="{'name': …, 'arguments': {…}}")
        arguments = body.get("arguments") or {}
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except json.JSONDecodeError as error:
                raise DataError(
                    "a tool call's arguments are not JSON", where=f"call of {body['name']!r}", got=arguments
                ) from error
        if not isinstance(arguments, Mapping):
            raise DataError(
                "a tool call's arguments are not a JSON object", where=f"call of {body['name']!r}", got=arguments
            )
        return cls(body["name"], arguments, str(value.get("server") or body.get("server") or ""))

    def to_dict(self) -> dict[str, Any]:
        """The call in OpenAI's form, with ``server`` beside ``function``."""
        function = {"name": self.name, "arguments": dict(self.arguments)}
        return {"type": "function", "function": function, **({"server": self.server} if self.server else {})}

    def to_record(self) -> dict[str, Any]:
        """All that is known of the call, as JSON; ``server`` and ``name`` are null where the engine abstained."""
        return {
            "server": None if self.abstained else self.server,
            "name": None if self.abstained else self.name,
            "arguments": dict(self.arguments),
            "confidence": self.confidence,
            "candidates": [{"server": t.server, "name": t.name, "probability": p} for t, p in self.candidates],
            "usage": self.usage.to_dict() if self.usage else None,
        }


def find_called_tool(call: ToolCall, tools: Sequence[Tool], error: type[DualTuneError] = DataError) -> Tool:
    """The visible tool that a call names. The server may be left out where one tool alone has the name.

    Raises:
        DataError: (or ``error``) when there is no such tool, or the name alone means several.
    """
    named = [tool for tool in tools if tool.name == call.name]
    found = [tool for tool in named if tool.server == call.server] or (named if not call.server else [])
    if len(found) == 1:
        return found[0]
    raise error(
        "a call names several visible tools" if found else "a call names a tool that is not among the visible tools",
        got=f"{call.server}/{call.name}" if call.server else call.name,
        expected=" or ".join(f"{tool.server}/{tool.name}" for tool in found) or ", ".join(tool.name for tool in tools),
        fix="write the call's server beside its name" if found else None,
    )


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


def as_tools(tools: Iterable[Tool | Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Tools that may be given as dictionaries.

    Raises:
        ToolError: when a dictionary is not a tool.
    """
    return tuple(tool if isinstance(tool, Tool) else Tool.from_dict(tool) for tool in tools)


def as_messages(messages: str | Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages that may be given as dictionaries, or as the text of one request.

    Raises:
        DataError: when a dictionary is not a message.
    """
    if isinstance(messages, str):
        return (Message("user", messages),)
    return tuple(m if isinstance(m, Message) else Message.from_dict(m) for m in messages)
