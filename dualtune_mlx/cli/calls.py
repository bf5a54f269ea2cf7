"""Calls as people read them."""

from __future__ import annotations

import json
import re
from typing import Any

from dualtune_mlx.errors import escape
from dualtune_mlx.tools import ToolCall

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
LONGEST_VALUE = 60
"""Characters of an argument that a folded call shows."""
MOST_VALUES = 12
"""Arguments that a folded call shows."""


def quote_name(name: str) -> str:
    """A name in one line; in quotes where it has other characters than most names, and could be taken for a call."""
    return name if PLAIN_NAME.fullmatch(name) else spell(name)


def name_tool(server: str, name: str) -> str:
    """``server/tool``, each quoted where it needs to be."""
    return "/".join(quote_name(part) for part in (server, name) if part)


def spell(value: Any) -> str:
    """A value as JSON in one line, without what cannot be seen."""
    return escape(json.dumps(value, ensure_ascii=False))


def format_short(call: ToolCall) -> str:
    """A call in one line."""
    arguments = ", ".join(f"{quote_name(name)}={spell(value)}" for name, value in call.arguments.items())
    return f"{name_tool(call.server, call.name)}({arguments})"


def format_full(call: ToolCall) -> str:
    """A call with everything that it has, and nothing hidden."""
    written = json.dumps(dict(call.arguments), ensure_ascii=False, indent=2)
    return f"{name_tool(call.server, call.name)} {escape(written)}"


def format_folded(call: ToolCall) -> str:
    """A call in a line or few, whatever its arguments: long ones are folded, short ones come first."""
    shown = sorted(
        (f"{_fold(quote_name(name))}={_fold(spell(value))}" for name, value in call.arguments.items()), key=len
    )
    left_out = [f"… {len(shown) - MOST_VALUES:,} more"] if len(shown) > MOST_VALUES else []
    return f"{name_tool(call.server, call.name)}({', '.join([*shown[:MOST_VALUES], *left_out])})"


def _fold(text: str) -> str:
    if len(text) <= LONGEST_VALUE:
        return text
    half = LONGEST_VALUE // 2
    return f"{text[:half]}…{text[-half:]} ({len(text):,} characters)"
