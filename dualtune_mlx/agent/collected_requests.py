"""Requests that are to be run: lines of text, or lines of a data file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.files import parse_json, read_text
from dualtune_mlx.tools import Message, ToolCall

TRAJECTORIES = "trajectories"
"""The split that collected runs go to."""


@dataclass(frozen=True)
class CollectedRequest:
    """A request, and what is known of it."""

    text: str
    """What the user says."""
    calls: tuple[ToolCall, ...] = ()
    """The calls that are right for it, as far as they are known."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The metadata of its trajectory: source, style and family."""

    @property
    def digest(self) -> str:
        """Tells requests apart in files that do not have their text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def read_requests(path: str | Path) -> list[CollectedRequest]:
    """Read the requests of a file: one a line, or the first request of each line of a ``.jsonl`` data file.

    Lines of a data file for which no tool is called are left out: there is nothing to collect.

    Raises:
        UsageError: when the file cannot be read, or has no request.
        DataError: when a line is none.
    """
    path = Path(path)
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if path.suffix == ".jsonl":
        found = [one for number, line in lines if (one := _read_data_line(line, f"{path}:{number}"))]
    else:
        found = [_of_user(line.strip()) for _, line in lines]
    if not found:
        raise UsageError("the file has no request that a tool serves", where=path, expected="a request a line")
    return list({one.text: one for one in found}.values())


def read_done(folder: Path) -> set[str]:
    """The digests of the requests that a data folder has trajectories of, or reasons why not.

    Raises:
        DataError: when a line of its files cannot be read.
    """
    return {str(digest) for digest in _list_done(folder)}


def _list_done(folder: Path) -> Iterator[Any]:
    for name in (f"{TRAJECTORIES}.jsonl", f"{TRAJECTORIES}.rejected.jsonl"):
        path = folder / name
        text = read_text(path) if path.exists() else ""
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                value = parse_json(line, "a line is not JSON", f"{path}:{number}")
                value = value.get("line", value) if isinstance(value, dict) else {}
                yield (value.get("metadata") or {}).get("request")


def _read_data_line(text: str, where: str) -> CollectedRequest | None:
    value = parse_json(text, "a line is not JSON", where)
    try:
        messages = [Message.from_dict(one) for one in value["messages"]]
        request = next(one for one in messages if one.role == "user")
    except (TypeError, LookupError, StopIteration) as error:
        raise DataError(
            "a line has no request", where=where, got=text[:80], expected='{"messages": [{"role": "user", …}]}'
        ) from error
    calls = tuple(call for one in messages if one.weight for call in one.tool_calls)
    metadata = value.get("metadata")
    known = dict(metadata) if isinstance(metadata, dict) else {}
    return CollectedRequest(request.content, calls, {**_of_user(request.content).metadata, **known}) if calls else None


def _of_user(text: str) -> CollectedRequest:
    family = f"user {hashlib.sha256(json.dumps(text.lower().split()).encode()).hexdigest()[:8]}"
    return CollectedRequest(text, (), {"source": "user", "style": "", "family": family})
