"""Whether given arguments can be written under a tool's grammar, and where they stop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher

from dualtune_mlx.grammar.compiling import BYTES, new_matcher
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.spelling import sort_by_schema, spell_pieces

CONTEXT = 20
"""Characters before the place that an explanation repeats."""
MOST_NAMED = 8
"""Characters that may come next, as far as an explanation names them."""


def explain_unwritable(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """Why arguments cannot be written under a tool's grammar; "" where they can.

    They are spelled as training data is. Any tokenizer's tokens spell the same bytes, so none is needed.

    Args:
        tool: the tool.
        arguments: its arguments, which fit the schema (see ``check_arguments``).

    Returns:
        A phrase that names the place (such as ``$.edits[0].path``), what stands there and what may stand there.

    Raises:
        ToolError: when the schema is invalid or uses a keyword that cannot be enforced.
    """
    if not tool.takes_arguments:
        return f"$: the tool takes no arguments, not {json.dumps(dict(arguments))}" if arguments else ""
    matcher = _matcher(json.dumps(dict(tool.parameters)), tool.name)
    pieces = list(spell_pieces(sort_by_schema(arguments, tool.parameters)))
    text = "".join(piece for piece, _ in pieces).encode()
    written = matcher.try_consume_tokens(list(text))
    if written == len(text) and matcher.is_accepting():
        return ""
    before = text[:written].decode(errors="ignore")
    after = text[len(before.encode()) :].decode()[:1]
    end = 0
    for piece, place in pieces:
        end += len(piece)
        if end > len(before):
            return f"{place}: after {before[-CONTEXT:]!r} comes {after!r}{_name_expected(matcher)}"
    return f"$: the end comes after {before[-CONTEXT:]!r}{_name_expected(matcher)}"


def _matcher(schema: str, name: str) -> LLMatcher:
    return _compiled(schema, name).deep_copy()


@lru_cache(maxsize=256)  # the calls of a data set are calls of few tools
def _compiled(schema: str, name: str) -> LLMatcher:
    return new_matcher(Tool(name, "", json.loads(schema)), BYTES)


def _name_expected(matcher: LLMatcher) -> str:
    """What may come next instead, where that is little enough to be named."""
    if forced := matcher.compute_ff_bytes():
        return f", where {forced.decode(errors='ignore')!r} must come"
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    allowed = [chr(byte) for byte in np.flatnonzero(bits[:128])]
    named = " or ".join(map(repr, allowed)) if 0 < len(allowed) <= MOST_NAMED and not bits[128:256].any() else ""
    return f", where {named} may come" if named else ""
