"""What a tool answered: whole for the user, cut by a rule for the model."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import ToolError

SHORTEST_CUT = 200  # characters: below this, little would be left beside the line that tells of the cut


@dataclass(frozen=True)
class Media:
    """An image or a sound."""

    mime_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Resource:
    """A resource of a server: embedded, with its ``text`` or ``data``; or a link, with neither."""

    uri: str
    name: str = ""
    mime_type: str = ""
    text: str | None = field(default=None, repr=False)
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered.

    ``content`` holds MCP's content blocks as JSON objects, ``text`` the text among them, joined by newlines;
    ``images``, ``audio`` and ``resources`` are the others, decoded. ``structured`` is the structured content, if any;
    ``seconds`` is the time of the call. ``is_error`` means that the tool itself reports a failure, in ``text``.

    Raises:
        ToolError: when a block's base64 is none.
    """

    server: str
    tool: str
    content: tuple[Mapping[str, Any], ...]
    text: str
    structured: Any
    is_error: bool
    seconds: float

    def __post_init__(self) -> None:
        _ = self.images, self.audio, self.resources

    @property
    def images(self) -> tuple[Media, ...]:
        return tuple(_media(block) for block in self.content if block["type"] == "image")

    @property
    def audio(self) -> tuple[Media, ...]:
        return tuple(_media(block) for block in self.content if block["type"] == "audio")

    @property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(_resource(block) for block in self.content if block["type"] in ("resource", "resource_link"))

    def for_model(self, limit: int) -> str:
        """The result as text of at most ``limit`` characters, cut by ``head_and_tail``.

        Images, sounds and binary resources are named, not spelled out. A result that is structured alone is its JSON.
        """
        parts = [_as_text(block) for block in self.content]
        if not parts and self.structured is not None:
            parts = [json.dumps(self.structured, ensure_ascii=False)]
        return head_and_tail("\n".join(parts), limit)


def head_and_tail(text: str, limit: int) -> str:
    """The rule for texts longer than ``limit`` characters: the first and the last half of what there is room for,
    and between them a line that says how much was left out.

    Raises:
        ToolError: for a limit below 200 characters.
    """
    if limit < SHORTEST_CUT:
        raise ToolError(
            "a result cannot be cut that short", got=f"{limit} characters", expected=f"at least {SHORTEST_CUT}"
        )
    if len(text) <= limit:
        return text
    room = limit - len(_left_out(len(text)))
    head, tail = text[: room - room // 2], text[len(text) - room // 2 :]
    return f"{head}{_left_out(len(text) - room)}{tail}"


def decoded(data: str) -> bytes:
    """The bytes of a block's base64 text.

    Raises:
        ToolError: when it is not base64.
    """
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError(
            "a result has content that is not base64",
            got=str(error),
            expected="base64 text",
            fix="report this to the server's authors",
        ) from error


def _left_out(count: int) -> str:
    return f"\n[… {count:,} characters left out …]\n"


def _media(block: Mapping[str, Any]) -> Media:
    return Media(block["mimeType"], decoded(block["data"]))


def _resource(block: Mapping[str, Any]) -> Resource:
    held = block.get("resource", block)
    data = held.get("blob")
    return Resource(
        held["uri"],
        held.get("name", ""),
        held.get("mimeType", ""),
        held.get("text"),
        None if data is None else decoded(data),
    )


def _as_text(block: Mapping[str, Any]) -> str:
    if block["type"] == "text":
        return str(block["text"])
    if block["type"] in ("image", "audio"):
        media = _media(block)
        return f"[{block['type']}: {media.mime_type}, {len(media.data):,} bytes]"
    resource = _resource(block)
    if resource.text is not None:
        return f"[resource: {resource.uri}]\n{resource.text}"
    size = "" if resource.data is None else f"{len(resource.data):,} bytes"
    return f"[resource: {', '.join(filter(None, (resource.name, resource.uri, resource.mime_type, size)))}]"
