"""Spans of a conversation: what may be copied from it, between word borders."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from dualtune_mlx.tools import Message

_BORDER = (
    r"\s\"'`,;:?!()\[\]{}<>¡¿«»"
    r"\u2010-\u205e\u3000-\u303f\uff01-\uff0f\uff1a-\uff20"  # typographic quotes and dashes, East Asian punctuation
)
_START = re.compile(rf"(?:(?<=[{_BORDER}])|^)(?=\S)")
_END = re.compile(rf"(?<=\S)(?=\.*(?:[{_BORDER}]|$))")
"""Before a border, and before the period that ends a sentence; not before the period of a file name."""

_BRACKETS = {"{": "}", "[": "]", "(": ")"}
_ADDRESS = re.compile(r"\w+://\S+")
_QUOTED = re.compile(r'"(?=\S)([^"\n]+)(?<=\S)"|[“„](?=\S)([^“”\n]+)(?<=\S)[“”]|«(?=\S)([^«»\n]+)(?<=\S)»')
_TAIL = re.compile(rf"[.{_BORDER}]*")


def find_spans(messages: Iterable[Message]) -> Iterator[str]:
    """The spans between word borders in messages and in the arguments of earlier calls. Some repeat.

    A span that begins with a bracket has its end too, one that begins as an address does is a whole address, and one
    that begins or ends with something in double quotes has all of it.
    """
    for text in _copied_texts(messages):
        ends = [match.start() for match in _END.finditer(text)]
        for match in _START.finditer(text):
            start = match.start()
            for end in ends[bisect_right(ends, start) :]:
                if not _is_cut(text, start, end):
                    yield text[start:end]


def is_span(value: str, messages: Iterable[Message]) -> bool:
    """Whether a value is one of ``find_spans(messages)``; fast for a conversation of any length."""
    return value != "" and any(_contains_span(text, value) for text in _copied_texts(messages))


def find_strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, string) for every string in a call's arguments."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from find_strings(item, child_path(path, name))
    elif isinstance(value, list):
        for item in value:
            yield from find_strings(item, f"{path}[]")


def child_path(path: str, name: str) -> str:
    """The path of a parameter inside another one: ``edits[].oldText``."""
    return f"{path}.{name}" if path else name


def _contains_span(text: str, value: str) -> bool:
    """Whether a value stands between word borders somewhere in a text."""
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if _START.match(text, start) and _END.match(text, end) and not _is_cut(text, start, end):
            return True
        start = text.find(value, start + 1)
    return False


def _is_cut(text: str, start: int, end: int) -> bool:
    """Whether a span has the beginning of something in brackets or of an address, without its end.

    So is one that has the beginning of something in quotes or the end of it alone.
    """
    quoted = _find_quoted(text)
    if start in quoted and end < quoted[start] and not _TAIL.fullmatch(text, end, quoted[start]):
        return True
    if end in quoted and start > quoted[end]:
        return True
    if closing := _BRACKETS.get(text[start]):
        return text.count(text[start], start, end) != text.count(closing, start, end)
    address = _ADDRESS.match(text, start)
    return address is not None and end < address.end() and not _TAIL.fullmatch(text, end, address.end())


@lru_cache(maxsize=64)
def _find_quoted(text: str) -> Mapping[int, int]:
    """Where something in quotes begins, with its end, and where it ends, with its beginning."""
    found: dict[int, int] = {}
    for match in _QUOTED.finditer(text):
        start, end = match.start() + 1, match.end() - 1
        found[start], found[end] = end, start
    return found


def _copied_texts(messages: Iterable[Message]) -> Iterator[str]:
    """The texts that values are copied from: all but the system message, which is long and asks for nothing."""
    for message in messages:
        if message.role != "system":
            yield message.content
            for call in message.tool_calls:
                yield from (value for _, value in find_strings(call.arguments))
