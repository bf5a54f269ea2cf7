"""A tool's schema, compiled by llguidance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar.closing import close_objects
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import read_schema

# The spelling of json.dumps, which is what training data is written in.
SPELLING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# An enum of all spans of a conversation (see `grounding`) is a grammar beyond llguidance's own limits.
LIMITS = LLParserLimits(initial_lexer_fuel=20_000_000, max_grammar_size=5_000_000)
BYTES = LLTokenizer("byte")
"""A tokenizer whose tokens are the bytes. What it can write is what every model's tokenizer can write."""


def new_matcher(tool: Tool, tokenizer: LLTokenizer, frame: tuple[str, str] = ("", "")) -> LLMatcher:
    """What may be written of a call's arguments, at their beginning.

    Args:
        tool: the tool whose schema the arguments obey.
        tokenizer: the tokenizer whose tokens are written.
        frame: fixed text before and after the arguments.

    Raises:
        ToolError: when the schema is invalid or uses a keyword that cannot be enforced.
    """
    schema = close_objects(read_schema(dict(tool.parameters), f"tool {tool.name!r}"))
    matcher = LLMatcher(tokenizer, _lark_grammar(schema, frame), limits=LIMITS)
    if matcher.is_error():
        raise ToolError(
            "a tool's schema uses something that cannot be enforced while decoding",
            where=f"tool {tool.name!r}",
            got=matcher.get_error().splitlines()[0],
            fix="simplify the tool's input schema",
        )
    return matcher


def check_compiles(tool: Tool) -> None:
    """Check that a tool's arguments can be written under its schema at all. No model is needed.

    Raises:
        ToolError: as ``new_matcher`` does.
    """
    new_matcher(tool, BYTES)


def _lark_grammar(schema: Mapping[str, Any], frame: tuple[str, str]) -> str:
    """llguidance's grammar of a JSON value with fixed text around it."""
    before, after = map(json.dumps, frame)
    value = json.dumps({**schema, "x-guidance": SPELLING})
    return LLMatcher.grammar_from_lark(f"start: {before} value {after}\nvalue: %json {value}")
