"""Patterns of JSON Schema: regular expressions in ECMAScript's syntax, for the check and for the grammar.

``regex``, which checks, and llguidance, which writes, read most of that syntax as ECMAScript does. What either of them
reads differently is spelled here so that both read it alike.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools.time_limit import seconds_left

SHORTHANDS = {
    "d": "0-9",
    "w": "0-9A-Za-z_",
    "s": r"\t\n\x0b\x0c\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff",
}
NOT_LINE_ENDS = r"[^\n\r\u2028\u2029]"
ESCAPE = r"""
    \\u\{(?P<point>[0-9a-fA-F]{1,6})\}
    |\\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})
    |\\(?:u(?P<four>[0-9a-fA-F]{4})|x(?P<two>[0-9a-fA-F]{2})|c(?P<control>[A-Za-z])|(?P<zero>0)(?![0-9]))
    |\\(?P<shorthand>[dDwWsS])|(?P<property>\\[pP]\{[^}]*\})|\\(?P<named>[bfnrtv])|\\(?P<other>[^0-9A-Za-z])
    |(?P<single>[^\\])
"""
MEMBER = re.compile(ESCAPE, re.VERBOSE)
TOKEN = re.compile(
    rf"""\[(?P<negated>\^?)(?P<members>(?:\\.|[^\]\\])*)\]
    |(?P<boundary>\\[bB])|\\(?P<start>A)|\\(?P<end>[zZ])|(?P<reference>\\[1-9])
    |(?P<quantifier>\{{(?P<least>[0-9]+)(?:,[0-9]*)?\}})|{ESCAPE}""",
    re.VERBOSE | re.DOTALL,
)
INLINE_FLAGS = re.compile(r"\(\?[a-zA-Z-]+[:)]")
LARGEST = 200_000
"""Characters of a pattern whose repetitions are written out, as ``regex`` does: above 100 MB of memory."""
LONGEST_SEARCH = 1.0
"""Seconds. Some patterns take for ever to find that a text does not match, and servers choose patterns."""


def find_pattern(pattern: str, text: str) -> bool:
    """Whether a text has what a pattern describes.

    Raises:
        ToolError: when it is no regular expression, or takes too long.
        TimeoutError: when the time of a check is over.
    """
    compiled, seconds = compile_pattern(pattern), seconds_left(LONGEST_SEARCH)
    try:
        return compiled.search(text, timeout=seconds) is not None
    except (TimeoutError, MemoryError, RecursionError) as error:
        raise _pattern_error(pattern, "a search without an end") from error


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """The pattern, for ``regex``.

    Raises:
        ToolError: when it is no regular expression, or a very large one.
    """
    if (size := _count_written_out(pattern)) > LARGEST:
        raise _pattern_error(pattern, f"{size:,} characters with its repetitions written out")
    try:
        return regex.compile(spell_pattern(pattern, end=r"\Z"), regex.V1)
    except (regex.error, ValueError, RecursionError, OverflowError) as error:
        raise _pattern_error(pattern, str(error)) from error


def _count_written_out(pattern: str) -> int:
    """How long a pattern is when each repetition stands there as often as it must."""
    sizes, last = [0], 0
    for token in _tokens(TOKEN, pattern, pattern):
        if token[0] == "(":
            sizes.append(0)
            continue
        if token[0] == ")" and len(sizes) > 1:
            last = sizes.pop()
        elif least := token["least"]:
            last *= max(0, int(least[:20]) - 1)
        else:
            last = 1
        sizes[-1] += last
    return sum(sizes)


@lru_cache(maxsize=1024)
def spell_pattern(pattern: str, end: str = "$") -> str:
    """The pattern in the syntax that ``regex`` and llguidance share.

    Inline flags are no part of ECMAScript's syntax. A pattern that has them is written for Python or Rust, and so is
    its ``.``.

    Args:
        pattern: as a schema has it.
        end: how the end of the text is spelled, in which ``regex`` and llguidance differ.

    Raises:
        ToolError: when it has an escape that is not known.
    """
    spellings = {"$": end, ".": "." if INLINE_FLAGS.search(pattern) else NOT_LINE_ENDS}
    return "".join(_spell_token(token, spellings, end) for token in _tokens(TOKEN, pattern, pattern))


def _tokens(kind: re.Pattern[str], text: str, pattern: str) -> Iterator[re.Match[str]]:
    place = 0
    while place < len(text):
        token = kind.match(text, place)
        if token is None:
            raise _pattern_error(pattern, f"unknown syntax at {text[place : place + 10]!r}")
        yield token
        place = token.end()


def _spell_token(token: re.Match[str], spellings: dict[str, str], end: str) -> str:
    kind, text = token.lastgroup, token[0]
    if kind == "members":
        return _spell_class(token)
    if kind == "end":
        return end
    if kind == "single":
        return spellings.get(text) or (f"\\{text}" if text in "{}]" else text)
    if kind in ("boundary", "start", "reference", "quantifier"):
        return text
    return _spell_set(token) or _spell_character(token)


def _spell_class(token: re.Match[str]) -> str:
    """A class, whose members may be ranges. A class without members has nothing, and its negation everything."""
    members = list(_tokens(MEMBER, token["members"], token[0]))
    if not members:
        return "(?s:.)" if token["negated"] else "[a&&b]"
    spelled = ""
    while members:
        first = members.pop(0)
        if len(members) > 1 and members[0][0] == "-" and not _spell_set(first) + _spell_set(members[1]):
            spelled += f"{_spell_character(first)}-{_spell_character(members[1])}"
            members = members[2:]
        else:
            spelled += _spell_set(first) or _spell_character(first)
    return f"[{token['negated']}{spelled}]"


def _spell_set(token: re.Match[str]) -> str:
    r"""A shorthand (``\d``) or a property (``\p{L}``), which may stand inside a class; "" for a character."""
    if shorthand := token["shorthand"]:
        return f"[{'^' if shorthand.isupper() else ''}{SHORTHANDS[shorthand.lower()]}]"
    return token["property"] or ""


def _spell_character(token: re.Match[str]) -> str:
    text = token[0]
    if high := token["high"]:
        code = 0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(token["low"], 16) & 0x3FF)
    elif digits := token["point"] or token["four"] or token["two"]:
        code = int(digits, 16)
    elif control := token["control"]:
        code = ord(control) & 31
    elif token["zero"]:
        code = 0
    elif named := token["named"]:
        code = ord("\b\f\n\r\t\v"["bfnrtv".index(named)])
    else:
        code = ord(text[-1])
    if code > sys.maxunicode:
        raise _pattern_error(text, "no character has this number")
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\U{code:08x}"


def _pattern_error(pattern: str, problem: str) -> ToolError:
    return ToolError(
        "a pattern cannot be read",
        where=repr(pattern),
        got=problem,
        expected="a regular expression in ECMAScript's syntax, of measured size and time",
        fix="correct the pattern in the tool's schema, or report this to the server's authors",
    )
