"""What a tool answered: whole for the user, cut for the model."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import ToolError, count_of

DATA_URL = re.compile(r"data:(?P<type>[^;,]*)[^,]*;base64,", re.IGNORECASE)
UNKNOWN_TYPE = "application/octet-stream"
MOST_BLOCKS = 10_000
"""Content blocks that are kept of a result. Reading each takes its time, and a server chooses how many there are."""
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
    """What a tool answered. ``read_result`` makes it of what a server sends."""

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

        Images, sounds and binary resources are only named. Where no block has text, the structured JSON follows.
        """
        parts = [_to_text(block) for block in self.content]
        has_text = self.text.strip() or any(resource.text for resource in self.resources)
        if self.structured is not None and not has_text:
            named = [part for part in parts if part.strip()]
            parts = [*named, json.dumps(self.structured, ensure_ascii=False)]
        return head_and_tail("\n".join(parts), limit)


def read_result(server: str, tool: str, answer: Mapping[str, Any], seconds: float) -> ToolResult:
    """The result of a call, as the server sent it.

    The call was made, so nothing in it is refused. A block that cannot be read becomes a text that shows it. Of very
    many blocks the last are left out, which a text says. The structured content may be any JSON: it is not held to the
    tool's output schema.
    """
    answer = _spell_numbers(answer)
    given = answer.get("content")
    blocks = given if isinstance(given, list) else [] if given is None else [given]
    if len(blocks) > MOST_BLOCKS:
        blocks = [*blocks[:MOST_BLOCKS], f"[{len(blocks) - MOST_BLOCKS:,} more blocks are left out]"]
    content = tuple(map(_read_block, blocks))
    text = "\n".join(block["text"] for block in content if block["type"] == "text")
    is_error = str(answer.get("isError")).lower() in ("true", "1")
    return ToolResult(server, tool, content, text, answer.get("structuredContent"), is_error, seconds)


def _spell_numbers(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer with NaN and infinite numbers, which are none in JSON, as texts."""
    try:
        json.dumps(answer, allow_nan=False)
    except ValueError:
        spelled: Mapping[str, Any] = json.loads(json.dumps(answer), parse_constant=str)
        return spelled
    return answer


def head_and_tail(text: str, limit: int) -> str:
    """Cut a text to ``limit`` characters: its beginning and its end, and between them a line that counts what is left
    out.

    Raises:
        ToolError: for a limit below 200 characters.
    """
    if limit < SHORTEST_CUT:
        raise ToolError(
            "a result cannot be cut that short", got=count_of(limit, "character"), expected=f"at least {SHORTEST_CUT}"
        )
    if len(text) <= limit:
        return text
    room = limit - len(_cut_mark(len(text)))
    head, tail = text[: room - room // 2], text[len(text) - room // 2 :]
    return f"{head}{_cut_mark(len(text) - room)}{tail}"


def _cut_mark(count: int) -> str:
    return f"\n[… {count_of(count, 'character')} left out …]\n"


def _read_block(block: Any) -> Mapping[str, Any]:
    """A content block whose fields are there and of their type, its data plain base64; else a text that shows it."""
    if isinstance(block, str):
        return {"type": "text", "text": block}
    try:
        return _BLOCKS[block["type"]](_drop_nulls(block))
    except (KeyError, TypeError):  # a field is missing, or not of its type
        return {"type": "text", "text": json.dumps(block, ensure_ascii=False)}
    except ValueError:  # its data is not base64
        about = block.get("resource", {}).get("uri") or block.get("mimeType") or UNKNOWN_TYPE
        return {"type": "text", "text": f"[{block['type']}: {about}, its data cannot be read]"}


def _drop_nulls(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(values)
    return {name: value for name, value in values.items() if value is not None}


def _check_text(block: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_strings(block, "text")
    return block


def _check_media(block: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_strings(block, "data", *{"mimeType"} & set(block))
    url = DATA_URL.match(block["data"].strip())
    mime_type = block.get("mimeType") or (url and url["type"]) or UNKNOWN_TYPE
    return {**block, "mimeType": mime_type, "data": _plain_base64(block["data"])}


def _check_link(block: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_strings(block, "uri", *{"name", "mimeType"} & set(block))
    return block


def _check_resource(block: Mapping[str, Any]) -> Mapping[str, Any]:
    resource = _drop_nulls(block["resource"])
    _check_strings(resource, "uri", *{"name", "mimeType", "text", "blob"} & set(resource))
    data = {"blob": _plain_base64(resource["blob"])} if "blob" in resource else {}
    return {**block, "resource": {**resource, **data}}


_BLOCKS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "text": _check_text,
    "image": _check_media,
    "audio": _check_media,
    "resource_link": _check_link,
    "resource": _check_resource,
}
"""How each type of block is checked; a KeyError, TypeError or ValueError says that it cannot be read."""


def _check_strings(values: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(values[name], str):
            raise TypeError(name)


def _plain_base64(data: str) -> str:
    """Base64 without line breaks, as servers also write it: wrapped, as ``data:`` URL, for URLs, without padding."""
    text = "".join(DATA_URL.sub("", data.strip(), count=1).split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4), validate=True)).decode()


def _read_media(block: Mapping[str, Any]) -> Media:
    return Media(block["mimeType"], base64.b64decode(block["data"]))


def _read_resource(block: Mapping[str, Any]) -> Resource:
    resource = block.get("resource", block)
    data = resource.get("blob")
    return Resource(
        resource["uri"],
        resource.get("name", ""),
        resource.get("mimeType", ""),
        resource.get("text"),
        None if data is None else base64.b64decode(data),
    )


def _to_text(block: Mapping[str, Any]) -> str:
    if block["type"] == "text":
        return str(block["text"])
    if block["type"] in ("image", "audio"):
        media = _read_media(block)
        return f"[{block['type']}: {media.mime_type}, {count_of(len(media.data), 'byte')}]"
    resource = _read_resource(block)
    if resource.text is not None:
        return f"[resource: {resource.uri}]\n{resource.text}"
    size = "" if resource.data is None else count_of(len(resource.data), "byte")
    return f"[resource: {', '.join(filter(None, (resource.name, resource.uri, resource.mime_type, size)))}]"
