"""The records of a file: the lines of JSONL, or the items of one JSON list, one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.files import load_json

CHUNK = 2**20
"""Characters that are read at a time."""
SHOWN = 80
"""Characters of a record that an error repeats."""


def iter_records(path: Path) -> Iterator[tuple[int, Any]]:
    """The records of a file, each with its number from 1: that of its line or, in a list, of its item.

    A record that is no JSON is a ``DataError`` in its place.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is not UTF-8, or a list is broken, so that nothing behind it can be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.read(1)
            while first.isspace():
                first = file.read(1)
            yield from _iter_items(file, path) if first == "[" else _iter_lines(path)
    except OSError as error:
        raise UsageError("a file cannot be read", where=path, got=error.strerror, expected="a file") from error
    except UnicodeDecodeError as error:
        raise DataError("a file is not UTF-8 text", where=path, got=error.reason, fix="save it as UTF-8") from error


def _iter_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, load_json(line)
                except (ValueError, RecursionError) as error:
                    yield (
                        number,
                        DataError(
                            "a line is not JSON", got=f"{line[:SHOWN]} ({error})", expected="a JSON object on each line"
                        ),
                    )


def _iter_items(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a list behind its bracket."""
    decoder, text, number, ended = json.JSONDecoder(), "", 1, False
    while True:
        text = text.lstrip(" \t\r\n,") if number > 1 else text.lstrip()
        if text.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(text)
        except ValueError as error:
            if ended:
                raise DataError(
                    "a list of records is broken",
                    where=f"{path}, record {number}",
                    got=text[:SHOWN],
                    fix="mend it there",
                ) from error
        else:
            if end < len(text) or ended:  # a number at the end may go on
                yield number, value
                text, number = text[end:], number + 1
                continue
        more = file.read(max(CHUNK, len(text)))
        text, ended = text + more, not more
