"""Leads a session of ``ask`` over a data folder: every confirmed request is in the file at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.data import read_tools
from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json, read_text, write_json, write_text
from dualtune_mlx.learning.ask import QUIT, SOURCE, AskSession, Fill, Screen


def ask(
    folder: str | Path,
    read_line: Callable[[Screen], str | None],
    fill: Fill,
    *,
    count: int = 20,
    today: str = "",
) -> Screen:
    """Ask a user for requests, until there are enough in the folder's ``test.jsonl`` or the user leaves.

    What is undone when the user leaves lies in ``ask.json``; the next session begins with it.

    Args:
        folder: a data folder with ``tools.json``.
        read_line: shows a screen and returns the next line; None where the user leaves.
        fill: returns the arguments of a tool that can be found in a request.
        count: how many requests there are to be, with those of earlier sessions.
        today: the date that the requests are said on.

    Returns:
        The last screen.

    Raises:
        UsageError, DataError, ToolError: when a file of the folder cannot be read or written.
    """
    folder = Path(folder)
    test, undone = folder / "test.jsonl", folder / "ask.json"
    text = read_text(test) if test.exists() else ""
    draft = _read_draft(undone)
    session = AskSession(
        read_tools(folder / "tools.json"), fill, count=count, before=read_own(text, test), draft=draft, today=today
    )
    while session.screen.state != "end":
        line = read_line(session.screen)
        if line is None or line.strip() == QUIT:
            break
        session.take(line)
        if session.lines:
            write_text(test, _append(text, session.lines))
        elif test.exists() or text:
            write_text(test, text)
        draft = _write_draft(undone, draft, session.draft)
    return session.screen


def read_own(text: str, path: Path) -> list[Mapping[str, Any]]:
    """The lines of a data file's text that users said themselves.

    Raises:
        DataError: when a line is not JSON, or no conversation.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        value = parse_json(line, "a line is not JSON", f"{path}:{number}") if line.strip() else {}
        metadata = value.get("metadata") if isinstance(value, dict) else None
        if isinstance(metadata, dict) and metadata.get("source") == SOURCE:
            found.append(value)
    return found


def _append(text: str, lines: list[dict[str, Any]]) -> str:
    gap = "\n" if text and not text.endswith("\n") else ""
    return text + gap + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _read_draft(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    value = parse_json(read_text(path), "what is undone cannot be read", path)
    if not isinstance(value, dict):
        raise DataError("what is undone cannot be read", where=path, expected="an object", fix="remove the file")
    return value


def _write_draft(path: Path, before: Mapping[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    if now:
        write_json(path, now)
    elif before:
        path.unlink(missing_ok=True)
    return now
