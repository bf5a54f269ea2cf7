"""Conversations in OpenAI's form: its fine-tuning files, mlx-lm's ``tools`` data, AgentFlux's trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualtune_mlx.data.importing.schemas import mend_types
from dualtune_mlx.data.keys import LINE
from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json

THOUGHTS = ("reasoning", "reasoning_content", "reasoning_details", "thinking", "thinking_blocks", "audio")
"""Keys of messages that hold what is not learned."""


def read_openai(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of data of a record with ``messages``. Keys that no line has become metadata; thoughts are left out.

    Raises:
        DataError: when it has no list of messages, or its tools are no JSON.
    """
    messages = record.get("messages")
    if not isinstance(messages, list):
        raise DataError("a record has no messages", got=", ".join(record), expected='a list "messages"')
    line = {key: value for key, value in record.items() if key in (*LINE.read, *LINE.ignored)}
    for key in ("tools", "functions"):
        if isinstance(line.get(key), str):
            line[key] = parse_json(line[key], "a record's tools are not JSON", None)
        if line.get(key) is not None:
            line[key] = mend_types(line[key])
    line["messages"] = [_drop_thoughts(message) for message in messages]
    others = {key: value for key, value in record.items() if key not in line and value is not None}
    if others:
        own = record.get("metadata")
        line["metadata"] = {**(own if isinstance(own, Mapping) else {"metadata": own} if own else {}), **others}
    return line


def _drop_thoughts(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    return {key: value for key, value in message.items() if key not in THOUGHTS}
