"""A tool's schema, compiled by llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar.closing import close_objects
from dualtune_mlx.grammar.decimals import list_decimal_parts
from dualtune_mlx.grammar.keywords import ENFORCED
from dualtune_mlx.grammar.plain import DEFINITIONS, to_plain
from dualtune_mlx.grammar.walking import map_subschemas
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.patterns import compile_pattern, spell_pattern
from dualtune_mlx.tools.schemas import LEAVE_OUT, read_schema

# The spelling of json.dumps, which is what training data is written in. Where options of a `oneOf` may both fit, any of
# them may be written; `check_arguments` refuses what fits several.
SPELLING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
# An enum of all spans of a conversation (see `grounding`) is a grammar beyond llguidance's own limits.
LIMITS = LLParserLimits(initial_lexer_fuel=20_000_000, max_grammar_size=5_000_000)
BYTES = LLTokenizer("byte")
"""A tokenizer whose tokens are the bytes. What it can write is what every model's tokenizer can write."""
NO_GRAMMAR = re.compile(r"\(\?<?[=!]|\\[bB1-9]")
"""What a pattern may hold and a grammar may not: look-around, word boundaries, back-references."""
NO_ARGUMENTS = {"type": "object", "additionalProperties": False}


def new_matcher(tool: Tool, tokenizer: LLTokenizer, frame: tuple[str, str] = ("", "")) -> LLMatcher:
    """What may be written of a call's arguments, at their beginning.

    Args:
        tool: the tool whose schema the arguments obey.
        tokenizer: the tokenizer whose tokens are written.
        frame: fixed text before and after the arguments.

    Raises:
        ToolError: when the schema is invalid or uses a keyword that cannot be enforced.
    """
    where = f"tool {tool.name!r}"
    schema = read_schema(dict(tool.parameters), where)
    return value_matcher(schema if tool.takes_arguments else NO_ARGUMENTS, where, tokenizer, frame)


def check_compiles(tool: Tool) -> None:
    """Check that a tool's arguments can be written under its schema at all. No model is needed.

    Raises:
        ToolError: as ``new_matcher`` does.
    """
    new_matcher(tool, BYTES)


def value_matcher(
    schema: Any, where: str, tokenizer: LLTokenizer = BYTES, frame: tuple[str, str] = ("", "")
) -> LLMatcher:
    """What may be written of a JSON value under a schema; ``where`` is for messages, the rest as in ``new_matcher``."""
    try:
        return compile_plain(close_objects(to_plain(schema)), where, tokenizer, frame)
    except RecursionError:
        raise _cannot_be_enforced(where, "a schema that is nested too deeply") from None
    except ValueError as error:  # an identifier that is no address
        raise _cannot_be_enforced(where, str(error)) from error


def compile_plain(
    schema: Any, where: str, tokenizer: LLTokenizer = BYTES, frame: tuple[str, str] = ("", "")
) -> LLMatcher:
    """As ``value_matcher``, of a schema in plain form, whose objects are open unless it closes them."""
    grammar = _lark_grammar(_Enforced(schema, where).schema, frame)
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if matcher.is_error():
        _, _, problem = matcher.get_error().splitlines()[0].rpartition("failed to compile JSON schema: ")
        raise _cannot_be_enforced(where, problem)
    return matcher


class _Enforced:
    """A closed schema in llguidance's syntax of patterns.

    Raises:
        ToolError: when something in it cannot be enforced.
    """

    def __init__(self, schema: Any, where: str) -> None:
        self._where = where
        self._definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        self.schema = self._spell(schema, "$")
        if self._definitions:
            definitions = {name: self._spell(item, name) for name, item in self._definitions.items()}
            self.schema = {**self.schema, "$defs": definitions}

    def _spell(self, schema: Any, place: str) -> Any:
        if not isinstance(schema, Mapping):
            return schema
        where = f"{self._where} at {place}"
        for key in schema.keys() - ENFORCED:
            raise _cannot_be_enforced(where, f"{key}: {json.dumps(schema[key])[:100]}")
        reference = schema.get("$ref", DEFINITIONS)
        if "$ref" in schema and reference.removeprefix(DEFINITIONS) not in self._definitions:
            raise _cannot_be_enforced(where, f"a $ref that leads nowhere: {reference}")
        spelled = map_subschemas(schema, lambda item, key, name: self._spell(item, f"{place}.{key}.{name}".strip(".")))
        if parts := list_decimal_parts(schema):
            spelled["allOf"] = [*spelled.get("allOf", ()), *parts]
        if "pattern" in schema:
            spelled["pattern"] = _spell_pattern(schema["pattern"], where)
        if "patternProperties" in schema:
            patterns = spelled["patternProperties"].items()
            spelled["patternProperties"] = {_spell_pattern(pattern, where): inner for pattern, inner in patterns}
        return spelled


def _spell_pattern(pattern: str, where: str) -> str:
    try:
        compile_pattern(pattern)
    except ToolError as error:
        raise _cannot_be_enforced(where, f"pattern {pattern!r}: {error.got}") from error
    spelled = spell_pattern(pattern)
    if NO_GRAMMAR.search(spelled):
        raise _cannot_be_enforced(where, f"pattern {pattern!r}: look-around, a word boundary or a back-reference")
    return spelled


def _cannot_be_enforced(where: str, got: str) -> ToolError:
    return ToolError(
        "a tool's schema uses something that cannot be enforced while decoding",
        where=where,
        got=got,
        fix=LEAVE_OUT,
    )


def _lark_grammar(schema: Any, frame: tuple[str, str]) -> str:
    """llguidance's grammar of a JSON value with fixed text around it."""
    before, after = map(json.dumps, frame)
    value = json.dumps({**(schema if isinstance(schema, Mapping) else {"allOf": [schema]}), "x-guidance": SPELLING})
    return LLMatcher.grammar_from_lark(f"start: {before} value {after}\nvalue: %json {value}")
