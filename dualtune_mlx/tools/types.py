"""Tools and calls: plain frozen data."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dualtune_mlx.errors import DataError, DualTuneError, ToolError, UsageError
from dualtune_mlx.tools.usage import Usage

BRING_ARGUMENTS = (
    "properties",
    "patternProperties",
    "required",
    "minProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "const",
    "enum",
    "$ref",
    "if",
)
"""Keywords that say, unless their value is empty, that a call has arguments."""
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: it has no half of a surrogate pair alone, as bytes that are no UTF-8 leave it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_dict(value: Any) -> dict[Any, Any]:
    """A mapping of another kind, for ``json.dumps``."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


class ClientTool(Protocol):
    """A tool as an object of a client library. It has its schema under one of the names that dictionaries have."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str | None: ...


@dataclass(frozen=True)
class Tool:
    """A tool that can be called by a model.

    Raises:
        ToolError: when it has no name, a text is none, or its parameters are not a JSON Schema object.
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
        if self.name.splitlines() != [self.name]:
            raise ToolError(
                "a tool's name has a line break",
                got=repr(self.name),
                expected="one line: it would look like several in prompts",
            )
        self._check_texts()
        if not isinstance(self.parameters, Mapping):
            raise ToolError(
                "a tool's parameters are not a JSON Schema object",
                where=f"tool {self.name!r}",
                got=type(self.parameters).__name__,
                expected="an object such as {'type': 'object', 'properties': {…}}",
            )
        self._check_json()
        for key, kind, expected in (("properties", Mapping, "an object"), ("required", list | tuple, "a list")):
            if key in self.parameters and not isinstance(self.parameters[key], kind):
                raise ToolError(
                    f"a tool's parameters are not a valid JSON Schema: {key!r}",
                    where=f"tool {self.name!r}",
                    got=repr(self.parameters[key]),
                    expected=expected,
                )

    def _check_json(self) -> None:
        try:
            json.dumps(self.parameters, ensure_ascii=False, default=_to_dict).encode()
        except (TypeError, ValueError, RecursionError) as error:  # also of half surrogate pairs, and 5,000 digits
            raise ToolError(
                "a tool's parameters cannot be written as JSON",
                where=f"tool {self.name!r}",
                got=str(error),
                expected="Unicode text, numbers, lists and objects, of levels and digits of measured number",
            ) from error

    def _check_texts(self) -> None:
        for text in ("description", "server", "group"):
            if not isinstance(getattr(self, text), str):
                raise ToolError(
                    f"a tool's {text} is not text",
                    where=f"tool {self.name!r}",
                    got=repr(getattr(self, text)),
                    expected="a string",
                )
        if not is_unicode(f"{self.name}{self.description}{self.server}{self.group}"):
            raise ToolError(
                "a tool has text that is not Unicode",
                where=f"tool {self.name!r}",
                got="half of a surrogate pair",
                fix="mend the text where it is decoded",
            )

    @property
    def full_name(self) -> str:
        """``server/tool``; the name alone where there is no server."""
        return f"{self.server}/{self.name}" if self.server else self.name

    def is_same(self, other: Tool) -> bool:
        """Whether the other is this very tool, hints included: equal tools may have other hints."""
        return self == other and self.annotations == other.annotations

    @property
    def takes_arguments(self) -> bool:
        """Whether a call has arguments to write. Those of a tool without parameters cost no forward pass.

        A tool has none where its schema lists no properties and says nothing of others. (Inside a schema such an object
        is one that may hold anything.)
        """
        others = (self.parameters.get(key, False) for key in ("additionalProperties", "unevaluatedProperties"))
        return any(map(self.parameters.get, BRING_ARGUMENTS)) or any(one not in (False, {"not": {}}) for one in others)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | ClientTool, server: str = "") -> Tool:
        """Read a tool in OpenAI's form, in MCP's form (``inputSchema``), or in the form of ``to_dict``.

        It may also be an object of a client library that has these fields as attributes.

        Raises:
            ToolError: when the value has none of these forms.
        """
        given = as_mapping(value, ("name", "description"), ("input_schema", "inputSchema", "parameters"))
        if given is None:
            raise ToolError(
                "a tool is not a JSON object", got=type(value).__name__, fix="give a Tool, or OpenAI's or MCP's form"
            )
        value, body = given, given.get("function", given)
        if not isinstance(body, Mapping):
            raise ToolError(
                "a tool's 'function' is not a JSON object",
                got=type(body).__name__,
                expected="{'name': …, 'description': …, 'parameters': …}",
            )
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
    usage: Usage = field(default_factory=Usage)
    """What the call cost; a call that no engine made has no stages in it."""
    unsaid: tuple[str, ...] = field(default=(), compare=False)
    """The paths of the string arguments that stand nowhere in the conversation: ``due``, ``edits[].oldText``."""
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}", compare=False, repr=False)
    """Tells calls of a conversation apart: ``tool_call_id`` of a call's result names it. "" for one read without it."""

    @property
    def full_name(self) -> str:
        """``server/tool``; the name alone where there is no server."""
        return f"{self.server}/{self.name}" if self.server else self.name

    @property
    def is_respond(self) -> bool:
        """Whether the call is an answer in words. A server may have a tool of this name."""
        return self.name == RESPOND.name and not self.server

    @property
    def abstained(self) -> bool:
        """Whether the best candidate was too improbable for a call."""
        return not self.name

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ToolCall:
        """Read an OpenAI-style ``tool_calls`` entry; ``arguments`` may be JSON text or an object.

        It may also be an object of a client library that has these fields as attributes.

        Raises:
            DataError: when it has no name, or its arguments are not a JSON object.
        """
        entry = as_mapping(value, ("function",), ("id",)) or {}
        body = as_mapping(entry.get("function", entry), ("name", "arguments"))
        if body is None or not isinstance(body.get("name"), str):
            raise DataError("a tool call has no name", got=value, expected="{'name': …, 'arguments': {…}}")
        arguments = body.get("arguments")
        arguments = {} if arguments in (None, "", []) else arguments
        where = f"call of {body['name']!r}"
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    "a tool call's arguments are not JSON",
                    where=where,
                    got=arguments,
                    fix="write an object, or the JSON text of one",
                ) from error
        if not isinstance(arguments, Mapping):
            raise DataError(
                "a tool call's arguments are not a JSON object",
                where=where,
                got=arguments,
                fix="write the arguments by their names",
            )
        identity = "" if entry.get("id") is None else str(entry["id"])
        return cls(body["name"], arguments, str(entry.get("server") or body.get("server") or ""), id=identity)

    def to_dict(self) -> dict[str, Any]:
        """The call in OpenAI's form: with an id and with its arguments as JSON text. ``server`` stands beside them."""
        function = {"name": self.name, "arguments": json.dumps(dict(self.arguments), ensure_ascii=False)}
        return {**({"id": self.id} if self.id else {}), **self.to_data(), "function": function}

    def to_data(self) -> dict[str, Any]:
        """The call as data files and transcripts have it: without its id, and its arguments as an object."""
        function = {"name": self.name, "arguments": dict(self.arguments)}
        return {"type": "function", "function": function, **({"server": self.server} if self.server else {})}

    def to_record(self) -> dict[str, Any]:
        """All that is known of the call, as JSON; ``server`` and ``name`` are null where the engine abstained."""
        return {
            "server": None if self.abstained else self.server,
            "name": None if self.abstained else self.name,
            "arguments": dict(self.arguments),
            "unsaid": list(self.unsaid),
            "confidence": self.confidence,
            "candidates": [{"server": t.server, "name": t.name, "probability": p} for t, p in self.candidates],
            "usage": self.usage.to_dict() if self.usage.stages else None,
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


def as_tools(tools: Iterable[Tool | Mapping[str, Any] | ClientTool]) -> tuple[Tool, ...]:
    """Tools that may be given as dictionaries.

    Raises:
        UsageError: when they are not a list.
        ToolError: when a dictionary is not a tool.
    """
    is_one = isinstance(tools, Tool | Mapping)
    if is_one or isinstance(tools, str) or not isinstance(tools, Iterable):
        raise UsageError(
            "the tools are not a list of tools",
            got=repr(tools),
            expected="a list of Tool objects, or of dictionaries in OpenAI's or MCP's form",
            fix="put the tool into a list: [tool]" if is_one else None,
        )
    return tuple(tool if isinstance(tool, Tool) else Tool.from_dict(tool) for tool in tools)


def as_mapping(value: object, needed: Sequence[str], others: Sequence[str] = ()) -> Mapping[str, Any] | None:
    """A JSON object, or an object of a client library as one; None where the value is neither.

    Args:
        value: what is to be read.
        needed: the attributes that an object must have.
        others: attributes that it may have.
    """
    if isinstance(value, Mapping):
        return value
    if not all(hasattr(value, name) for name in needed):
        return None
    return {name: getattr(value, name) for name in (*needed, *others) if hasattr(value, name)}
