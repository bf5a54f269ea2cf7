"""What a caller asks for: conversations, tools and options, read and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dualtune_mlx.decoding import Decoding, DecodingOptions
from dualtune_mlx.decoding.options import is_number, is_whole_number
from dualtune_mlx.errors import UsageError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.tools import ClientMessage, ClientTool, Message, Tool, as_messages, as_tools
from dualtune_mlx.tools.hierarchy import ROUTINGS
from dualtune_mlx.tools.today import check_today, machine_date

Messages = str | Iterable[Message | Mapping[str, Any] | ClientMessage]
"""A conversation: the text of one request, or messages: dictionaries in OpenAI's form, a client library's objects."""
Tools = Iterable[Tool | Mapping[str, Any] | ClientTool]
"""The visible tools, which may be dictionaries in OpenAI's or MCP's form, or a client library's objects."""


class CallOptions(DecodingOptions, total=False):
    """The options of a call: those of ``Decoding``, and those of the choice."""

    top_k: int
    """How many candidates to rank (1)."""
    abstain: float
    """Below this probability of the best candidate (0) no call is made."""
    subtask: str
    """The words of the last request that the call is to be for; "" is all of it."""
    today: str
    """The date (2026-11-30) that argument cards tell; "" for none. By default the machine's."""


OWN_OPTIONS = ("top_k", "abstain", "subtask", "today")
"""The options of a call that are not fields of ``Decoding``."""


@dataclass(frozen=True)
class CallRequest:
    """A request for a call.

    Raises:
        UsageError: when there are no tools, an option is out of range, or ``today`` is not a date.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    decoding: Decoding
    top_k: int = 1
    abstain: float = 0.0
    subtask: str = ""
    today: str = field(default_factory=machine_date)

    def __post_init__(self) -> None:
        check_today(self.today, UsageError)
        if not self.tools:
            raise UsageError(
                "there are no tools to choose from",
                fix="give the visible tools; for an answer in words without tools there is DualTune.answer",
            )
        ranges = {
            "top_k": (is_whole_number(self.top_k) and self.top_k >= 1, "a whole number, at least 1"),
            "abstain": (is_number(self.abstain) and 0 <= self.abstain <= 1, "0 to 1"),
            "subtask": (isinstance(self.subtask, str), 'words of the request, as text; "" is all of it'),
        }
        for name, (is_right, expected) in ranges.items():
            if not is_right:
                raise UsageError(
                    "an option of a call is out of range", where=name, got=repr(getattr(self, name)), expected=expected
                )


def read_request(
    messages: Messages, tools: Tools, options: Mapping[str, Any], decoding: Decoding, tells_date: bool
) -> CallRequest:
    """A request for a call, with options in place of those of ``decoding``.

    Args:
        messages: the conversation, as the caller has it.
        tools: the visible tools, as the caller has them.
        options: the options of this call.
        decoding: the engine's options.
        tells_date: whether prompts tell a date.

    Raises:
        UsageError, DataError, ToolError: when the conversation, the tools or an option cannot be used.
    """
    own = {name: options[name] for name in OWN_OPTIONS if name in options}
    of_decoding = {name: value for name, value in options.items() if name not in OWN_OPTIONS}
    if own.get("today") and not tells_date:
        raise UsageError(
            "a date is given to prompts that tell none",
            where="today",
            got=repr(own["today"]),
            fix="leave it out, or use a bundle that was trained with argument_card: parameters",
        )
    changed = change_decoding(decoding, of_decoding, known=OWN_OPTIONS)
    return CallRequest(as_messages(messages), as_tools(tools), changed, **own)


def change_decoding(decoding: Decoding, options: Mapping[str, Any], known: Iterable[str] = ()) -> Decoding:
    """How arguments are written, with options of a call in place of the engine's.

    Args:
        decoding: the engine's.
        options: fields of ``Decoding``.
        known: names of the call's other options, for messages.

    Raises:
        UsageError: when an option is unknown or out of range.
    """
    fields = tuple(Decoding.__dataclass_fields__)
    if unknown := [name for name in options if name not in fields]:
        raise UsageError("an option is unknown", got=", ".join(unknown), expected=", ".join((*known, *fields)))
    return replace(decoding, **options)


def check_requests(requests: Iterable[Messages]) -> Iterable[Messages]:
    """Several requests; a text is one, though Python takes it for a list of letters.

    Raises:
        UsageError: when they are not a list.
    """
    if isinstance(requests, str | Mapping) or not isinstance(requests, Iterable):
        raise UsageError(
            "the requests are not a list of requests",
            got=repr(requests),
            fix="put the request into a list: [request]",
        )
    return requests


def check_places(bundle: Any, model: Any) -> None:
    """Check that a bundle's folder and its base model are given as such.

    Raises:
        UsageError: when one of them has another type.
    """
    if not isinstance(bundle, str | Path):
        raise UsageError("a bundle is given by its folder", where="bundle", got=repr(bundle), expected="a path")
    if not isinstance(model, str | Path | BaseModel | None):
        expected = "a folder, a hub id, a .gguf file, or a loaded model"
        raise UsageError("a base model is not one", where="model", got=repr(model), expected=expected)


def check_settings(decoding: Decoding | None, routing: str, memory_budget: int | None = None) -> None:
    """Check the settings of an engine before its model is loaded.

    Raises:
        UsageError: when one of them has another type, or is out of range.
    """
    if routing not in ROUTINGS:
        raise UsageError("a kind of routing is unknown", got=repr(routing), expected=", ".join(ROUTINGS))
    if decoding is not None and not isinstance(decoding, Decoding):
        raise UsageError(
            "a setting of the engine is not what it should be",
            where="decoding",
            got=repr(decoding),
            expected="a Decoding object",
            fix="write Decoding(max_tokens=…), of dualtune_mlx.decoding",
        )
    if memory_budget is not None and not (is_whole_number(memory_budget) and memory_budget > 0):
        raise UsageError(
            "a setting of the engine is not what it should be",
            where="memory_budget",
            got=repr(memory_budget),
            expected="bytes, as a whole number of at least 1",
            fix="write 2 * 2**30 for 2 GiB",
        )
