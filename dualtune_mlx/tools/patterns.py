"""Patterns of JSON Schema: regular expressions in ECMAScript's syntax, for the check and for the grammar.

``regex``, which checks, and llguidance, which writes, read most of that syntax as ECMAScript does. What either of them
reads differently is spelled here so that both read it alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]

from dualtune_mlx.errors import ToolError

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
    |(?P<quantifier>\{{[0-9]+(?:,[0-9]*)?\}})|{ESCAPE}""",
    re.VERBOSE | re.DOTALL,
)
INLINE_FLAGS = re.compile(r"\(\?[a-zA-Z-]+[:)]")


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """The pattern for ``.search``.

    Raises:
        ToolError: when it is no regular expression.
    """
    try:
        return regex.compile(spell_pattern(pattern, end=r"\Z"), regex.V1)
    except regex.error as error:
        raise _pattern_error(pattern, str(error)) from error


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
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\U{code:08x}"


def _pattern_error(pattern: str, problem: str) -> ToolError:
    return ToolError(
        "a pattern cannot be read",
        where=repr(pattern),
        got=problem,
        expected="a regular expression in ECMAScript's syntax",
        fix="correct the pattern in the tool's schema, or report this to the server's authors",
    )
