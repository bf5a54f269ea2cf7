"""Users' files: read as UTF-8 and strict JSON."""

from __future__ import annotations

import errno
import json
import stat
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from dualtune_mlx.errors import DataError, UsageError

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
NO_FILE = "no file, but a pipe, a socket or a device"
LONGEST_SHOWN = 80
"""Characters of a text that an error repeats."""


def require_file(path: Path) -> Path:
    """Check that what is about to be read is a file, and return it. A pipe would wait, a device may never end.

    Raises:
        OSError: when it is neither a file nor a folder, or is not there.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    return path


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        names = ", ".join(sorted(file.name for file in path.glob("*.json*") if file.is_file()))
        fix = f"name one of its files: {names}" if names else None
        raise UsageError("a file cannot be read", where=path, got="a folder", expected="a file", fix=fix) from error
    except OSError as error:
        raise UsageError("a file cannot be read", where=path, got=error.strerror, expected="a file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(UTF_16):
            raise _not_utf8(path, "UTF-16") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise _not_utf8(f"{path}:{line}", f"{error.reason}: {data[error.start]:#x}") from error
    if "\0" in text:
        raise _not_utf8(path, "a NUL character, as in UTF-16 and in files that are no text")
    return text


def _not_utf8(where: object, got: str) -> DataError:
    return DataError("a file is not UTF-8 text", where=where, got=got, expected="UTF-8", fix="save it as UTF-8")


def parse_json(text: str, what: str, where: object, expected: str = "JSON") -> Any:
    """Parse JSON in which every key stands once in its object, numbers are finite, and characters are whole.

    Args:
        text: the JSON.
        what: what is wrong when it is none, such as "a line is not JSON".
        where: the file and line, for messages.
        expected: what should have been there, for messages.

    Raises:
        DataError: when it is not such JSON.
    """
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            what,
            where=where,
            got=f"{text.strip()[:LONGEST_SHOWN]} ({error})",
            expected=expected,
            fix="mend it there, or write it with a program that writes JSON",
        ) from error


def load_json(text: str) -> Any:
    """``parse_json`` with Python's own errors: ``json.JSONDecodeError`` has the line, others name what is wrong."""
    value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_number, parse_float=_to_float)
    if "\\ud" in text or "\\uD" in text:  # half of a surrogate pair is no character
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {max(names, key=names.count)!r} stands there twice")
    return value


def _refuse_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _to_float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value
