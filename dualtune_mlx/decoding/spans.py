"""Spans of a conversation: what may be copied from it, between word borders."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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

_BRACKETS = {"}": "{", "]": "[", ")": "("}
_BRACKET = re.compile(r"[{}\[\]()]")
_QUOTED = re.compile(r'"(?=\S)([^"\n]+)(?<=\S)"|[“„](?=\S)([^“”\n]+)(?<=\S)[“”]|«(?=\S)([^«»\n]+)(?<=\S)»')
_ADDRESS = re.compile(r"\w+://\S+")
_PUNCTUATION = ".,;:!?)]}>\"'`”»"
"""What may be left out at the end of an address or of something in quotes."""


def find_spans(messages: Iterable[Message]) -> Iterator[str]:
    """The spans between word borders in messages and in the arguments of earlier calls. Some repeat.

    A span that begins with a bracket has its end too, one that begins as an address does is a whole address, and one
    that begins or ends with something in double quotes has all of it.
    """
    for text in _copied_texts(messages):
        ends, wholes = [match.start() for match in _END.finditer(text)], _find_wholes(text)
        for match in _START.finditer(text):
            start = match.start()
            first = bisect_left(ends, max(start + 1, wholes.ends.get(start, 0)))
            for end in ends[first:]:
                if wholes.starts.get(end, start) >= start:
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
        end, wholes = start + len(value), _find_wholes(text)
        is_whole = wholes.ends.get(start, 0) <= end and wholes.starts.get(end, start) >= start
        if is_whole and _START.match(text, start) and _END.match(text, end):
            return True
        start = text.find(value, start + 1)
    return False


@dataclass(frozen=True)
class _Wholes:
    """What is not cut: something in brackets or quotes, and an address."""

    ends: Mapping[int, int]
    """The first place at which a span may end, by that where it begins."""
    starts: Mapping[int, int]
    """The last place at which a span may begin, by that where it ends."""


@lru_cache(maxsize=64)
def _find_wholes(text: str) -> _Wholes:
    ends, starts = dict[int, int](), dict[int, int]()
    opened: dict[str, list[int]] = {bracket: [] for bracket in _BRACKETS.values()}
    for match in _BRACKET.finditer(text):
        waiting = opened[_BRACKETS.get(match[0], match[0])]
        if match[0] in opened:
            waiting.append(match.start())
        elif waiting:
            ends[waiting.pop()] = match.end()
    for match in _QUOTED.finditer(text):
        start, end = match.start() + 1, match.end() - 1
        ends[start], starts[end] = _without_tail(text, start, end), start
    for match in _ADDRESS.finditer(text):
        ends[match.start()] = _without_tail(text, *match.span())
    return _Wholes(ends, starts)


def _without_tail(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip(_PUNCTUATION))


def _copied_texts(messages: Iterable[Message]) -> Iterator[str]:
    """The texts that values are copied from: all but the system message, which is long and asks for nothing."""
    for message in messages:
        if message.role != "system":
            yield message.content
            for call in message.tool_calls:
                yield from (value for _, value in find_strings(call.arguments))
