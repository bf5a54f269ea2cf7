"""What a tool answered: whole for the user, cut for the model."""

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
    """Such as ``image/png``."""
    data: bytes = field(repr=False)
    """The decoded bytes."""


@dataclass(frozen=True)
class Resource:
    """A resource of a server. An embedded one has ``text`` or ``data``; a link has neither."""

    uri: str
    """The resource's address at its server."""
    name: str = ""
    """Its name; empty where the server gives none."""
    mime_type: str = ""
    """Its type; empty where the server gives none."""
    text: str | None = field(default=None, repr=False)
    """The content of an embedded text."""
    data: bytes | None = field(default=None, repr=False)
    """The content of an embedded file, decoded."""


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered.

    Raises:
        ToolError: when a block has content that is not base64.
    """

    server: str
    """The server that was called."""
    tool: str
    """The tool that was called."""
    content: tuple[Mapping[str, Any], ...]
    """MCP's content blocks, as JSON objects."""
    text: str
    """The text blocks, joined by newlines."""
    structured: Any
    """The structured content; None without one."""
    is_error: bool
    """The tool itself reports a failure; ``text`` describes it."""
    seconds: float
    """How long the call took."""

    def __post_init__(self) -> None:
        _ = self.images, self.audio, self.resources

    @property
    def images(self) -> tuple[Media, ...]:
        return tuple(_read_media(block) for block in self.content if block["type"] == "image")

    @property
    def audio(self) -> tuple[Media, ...]:
        return tuple(_read_media(block) for block in self.content if block["type"] == "audio")

    @property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(_read_resource(block) for block in self.content if block["type"] in ("resource", "resource_link"))

    def to_record(self) -> dict[str, Any]:
        """The result as JSON, whole: ``text``, ``content``, ``structured``, ``is_error`` and ``seconds``."""
        return {
            "text": self.text,
            "content": [dict(block) for block in self.content],
            "structured": self.structured,
            "is_error": self.is_error,
            "seconds": self.seconds,
        }

    def for_model(self, limit: int) -> str:
        """The result as text of at most ``limit`` characters, cut by ``head_and_tail``.

        Images, sounds and binary resources are only named. A result without content blocks is its structured JSON.
        """
        parts = [_to_text(block) for block in self.content]
        if not parts and self.structured is not None:
            parts = [json.dumps(self.structured, ensure_ascii=False)]
        return head_and_tail("\n".join(parts), limit)


def head_and_tail(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters: its beginning and its end, and between them a line that counts what is left
    out.

    Raises:
        ToolError: for a limit below 200 characters.
    """
    if limit < SHORTEST_CUT:
        raise ToolError(
            "a result cannot be cut that short", got=f"{limit} characters", expected=f"at least {SHORTEST_CUT}"
        )
    if len(text) <= limit:
        return text
    room = limit - len(_cut_mark(len(text)))
    head, tail = text[: room - room // 2], text[len(text) - room // 2 :]
    return f"{head}{_cut_mark(len(text) - room)}{tail}"


def decode_base64(data: str) -> bytes:
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


def _cut_mark(count: int) -> str:
    return f"\n[… {count:,} characters left out …]\n"


def _read_media(block: Mapping[str, Any]) -> Media:
    return Media(block["mimeType"], decode_base64(block["data"]))


def _read_resource(block: Mapping[str, Any]) -> Resource:
    resource = block.get("resource", block)
    data = resource.get("blob")
    return Resource(
        resource["uri"],
        resource.get("name", ""),
        resource.get("mimeType", ""),
        resource.get("text"),
        None if data is None else decode_base64(data),
    )


def _to_text(block: Mapping[str, Any]) -> str:
    if block["type"] == "text":
        return str(block["text"])
    if block["type"] in ("image", "audio"):
        media = _read_media(block)
        return f"[{block['type']}: {media.mime_type}, {len(media.data):,} bytes]"
    resource = _read_resource(block)
    if resource.text is not None:
        return f"[resource: {resource.uri}]\n{resource.text}"
    size = "" if resource.data is None else f"{len(resource.data):,} bytes"
    return f"[resource: {', '.join(filter(None, (resource.name, resource.uri, resource.mime_type, size)))}]"
