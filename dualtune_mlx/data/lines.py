"""Data files of any size, in constant memory: their lines one by one, or blocks of them for several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.data.parsing import parse_line
from dualtune_mlx.errors import DataError, DualTuneError, UsageError
from dualtune_mlx.files import load_json, remove_leftovers
from dualtune_mlx.files.reading import UTF_16
from dualtune_mlx.tools import Tool, Trajectory

BLOCK = 2**20
"""Bytes of a block, about."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some neighbouring lines of a file."""

    path: Path
    start: int
    """Where the first line begins, in bytes."""
    size: int
    """The bytes of all of them."""
    number: int
    """The number of the first line, from 1."""


@dataclass(frozen=True)
class DataLine:
    """A line of a data file: a trajectory, or what is wrong with it."""

    number: int
    """Its number in the file, from 1."""
    text: str
    """The line; "" where it is not UTF-8."""
    trajectory: Trajectory | None = None
    """None where the line is wrong."""
    error: DualTuneError | None = None
    """What is wrong, without the file and the number; None where nothing is."""


def iter_blocks(path: Path, size: int = BLOCK) -> Iterator[Block]:
    """The blocks of a file, in order; a block ends with a line.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is UTF-16.
    """
    remove_leftovers(path.parent)
    try:
        with path.open("rb") as file:
            start, number = 0, 1
            while data := file.read(size):
                if not start and data.startswith(UTF_16):
                    raise DataError("a file is not UTF-8 text", where=path, got="UTF-16", fix="save it as UTF-8")
                data += b"" if data.endswith(b"\n") else file.readline()
                yield Block(path, start, len(data), number)
                start, number = start + len(data), number + data.count(b"\n")
    except OSError as error:
        raise UsageError("a file cannot be read", where=path, got=error.strerror, expected="a file") from error


def read_block(block: Block) -> Iterator[tuple[int, bytes]]:
    """The numbers and the bytes of a block's lines; lines of nothing but spaces are left out."""
    with block.path.open("rb") as file:
        file.seek(block.start)
        data = file.read(block.size)
    if not block.start:
        data = data.removeprefix(BYTE_ORDER_MARK)
    for number, line in enumerate(data.split(b"\n"), block.number):
        if line.strip():
            yield number, line


def read_line(number: int, data: bytes, tools: tuple[Tool, ...]) -> DataLine:
    """A line as a trajectory, or with what is wrong with it."""
    try:
        text = _decode(data)
    except DataError as error:
        return DataLine(number, "", error=error)
    try:
        return DataLine(number, text, parse_line(text, tools))
    except DualTuneError as error:
        return DataLine(number, text, error=error)


def iter_lines(path: Path, tools: tuple[Tool, ...] = ()) -> Iterator[DataLine]:
    """All lines of a file, the wrong ones too.

    Args:
        path: the file.
        tools: the visible tools of lines that have none of their own.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is UTF-16.
    """
    for block in iter_blocks(path):
        for number, data in read_block(block):
            yield read_line(number, data, tools)


def iter_right_lines(path: Path, tools: tuple[Tool, ...] = ()) -> Iterator[DataLine]:
    """The lines of a file, which all have to be right.

    Args:
        path: the file.
        tools: the visible tools of lines that have none of their own.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when there is no line, or one is wrong.
    """
    number = 0
    for line in iter_lines(path, tools):
        number = line.number
        if line.error is not None:
            raise type(line.error)(
                line.error.what,
                where=line.error.inside(f"{path}:{line.number}").where,
                got=line.error.got,
                expected=line.error.expected,
                fix=f"{line.error.fix or 'mend the line'}; or take wrong lines out: dualtune data check {path} --fix",
            )
        yield line
    if not number:
        raise DataError("a data file is empty", where=path, expected='lines of {"messages": […], "tools": […]}')


def read_family(line: DataLine) -> str:
    """The family that a line's metadata names; "" for none."""
    if '"family"' not in line.text:
        return ""
    metadata = load_json(line.text).get("metadata")
    family = metadata.get("family") if isinstance(metadata, dict) else None
    return family if isinstance(family, str) else ""


def _decode(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        wrong = DataError(
            "a line is not UTF-8 text", got=f"{error.reason}: {data[error.start]:#x}", fix="save the file as UTF-8"
        )
        wrong.kind = "encoding"
        raise wrong from error
    if "\0" in text:
        wrong = DataError("a line is not text", got="a NUL character", fix="save the file as UTF-8")
        wrong.kind = "encoding"
        raise wrong
    return text
