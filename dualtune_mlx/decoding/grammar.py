"""Arguments as JSON under a tool's schema, with llguidance: which tokens may follow, and which must."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from dualtune_mlx.errors import DecodingError, ModelError, ToolError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import read_schema

# The spelling of json.dumps, which is what training data is written in.
SPELLING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# An enum of all spans of a conversation (see `grounding`) is a grammar beyond llguidance's own limits.
LIMITS = LLParserLimits(initial_lexer_fuel=20_000_000, max_grammar_size=5_000_000)
# Where schemas stand inside a schema: under names, or by themselves and in lists. Not `allOf`, see `close_objects`.
SCHEMA_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
SCHEMAS = frozenset(("items", "prefixItems", "additionalProperties", "anyOf", "oneOf"))


class GrammarTokenizer:
    """The tokenizer in llguidance's form. Building it takes some tenths of a second.

    Raises:
        ModelError: when llguidance cannot use the tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        from llguidance.hf import from_tokenizer  # imports transformers, which mlx-lm must configure first

        try:
            self.tokenizer: LLTokenizer = from_tokenizer(getattr(tokenizer, "_tokenizer", tokenizer))
        except ValueError as error:
            raise ModelError("the model's tokenizer cannot be used for constrained decoding", got=error) from error


class ArgumentGrammar:
    """What may be written of one call's arguments, token by token.

    Args:
        tool: the tool whose schema the arguments obey.
        tokenizer: the model's tokenizer.
        frame: fixed text before and after the arguments that may share tokens with them.

    Raises:
        ToolError: when the schema is invalid or uses a keyword that cannot be enforced.
    """

    def __init__(self, tool: Tool, tokenizer: GrammarTokenizer, frame: tuple[str, str] = ("", "")) -> None:
        self.tool, self.frame = tool, frame
        self._tokenizer = tokenizer.tokenizer
        schema = close_objects(read_schema(dict(tool.parameters), f"tool {tool.name!r}"))
        self._matcher = LLMatcher(self._tokenizer, _lark_grammar(schema, frame), limits=LIMITS)
        if self._matcher.is_error():
            raise ToolError(
                "a tool's schema uses something that cannot be enforced while decoding",
                where=f"tool {tool.name!r}",
                got=self._matcher.get_error().splitlines()[0],
                fix="simplify the tool's input schema",
            )
        self._mask = allocate_token_bitmask(1, self._tokenizer.vocab_size)

    def append_forced(self) -> list[int]:
        """Append the tokens that must come next, and return them; often there are none."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            self.append(tokens)
        return tokens

    def allowed_mask(self, vocabulary: int) -> np.ndarray:
        """Which tokens may come next, as booleans (vocabulary,)."""
        fill_next_token_bitmask(self._matcher, self._mask)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little").astype(bool)
        return np.pad(bits[:vocabulary], (0, max(0, vocabulary - bits.size)))

    def append(self, tokens: Sequence[int]) -> None:
        """Append tokens.

        Raises:
            DecodingError: when one of them may not come where it stands.
        """
        if not self._matcher.consume_tokens(list(tokens)):
            raise DecodingError(
                "the grammar of a tool's arguments refused a token",
                where=f"tool {self.tool.name!r}",
                got=self._matcher.get_error().splitlines()[0],
            )

    def valid_prefix(self, tokens: Sequence[int]) -> list[int]:
        """The tokens up to the first one that may not come where it stands. Nothing is appended."""
        return list(tokens[: self._matcher.validate_tokens(list(tokens))])

    def to_bytes(self, tokens: Sequence[int]) -> bytes:
        """The UTF-8 of tokens. It may end inside a character."""
        text: bytes = self._tokenizer.decode_bytes(list(tokens))
        return text

    def parse(self, tokens: Sequence[int]) -> dict[str, Any]:
        """The JSON object that complete tokens spell, without the frame."""
        before, after = self.frame
        text = self.to_bytes(tokens).decode()
        value: dict[str, Any] = json.loads(text[len(before) : len(text) - len(after)])
        return value

    @property
    def complete(self) -> bool:
        """Whether the JSON object is complete, so that nothing may follow."""
        return bool(self._matcher.is_stopped())


def _lark_grammar(schema: Mapping[str, Any], frame: tuple[str, str]) -> str:
    """llguidance's grammar of a JSON value with fixed text around it."""
    before, after = map(json.dumps, frame)
    value = json.dumps({**schema, "x-guidance": SPELLING})
    return LLMatcher.grammar_from_lark(f"start: {before} value {after}\nvalue: %json {value}")


def close_objects(schema: Any) -> Any:
    """The schema with ``additionalProperties: false`` in every object that lists its properties.

    So the model cannot invent a key. Schemas that an ``allOf`` combines stay open, because each would forbid the keys
    of the others.
    """
    return _close(schema, frozenset(_find_combined(schema)))


def _close(schema: Any, combined: frozenset[str]) -> Any:
    if isinstance(schema, list):
        return [_close(item, combined) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = dict(schema)
    for key in SCHEMA_MAPS & schema.keys():
        if isinstance(schema[key], Mapping):
            inner[key] = {
                name: item if f"#/{key}/{name}" in combined else _close(item, combined)
                for name, item in schema[key].items()
            }
    for key in SCHEMAS & schema.keys():
        inner[key] = _close(schema[key], combined)
    kinds = schema.get("type", "object")
    may_be_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
    if may_be_object and isinstance(schema.get("properties"), Mapping) and "allOf" not in schema:
        inner.setdefault("additionalProperties", False)
    return inner


def _find_combined(schema: Any) -> Iterator[str]:
    """The references that an ``allOf`` combines with other schemas."""
    for value in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _find_combined(value)
    parts = schema.get("allOf") if isinstance(schema, Mapping) else None
    if isinstance(parts, list) and (len(parts) > 1 or "properties" in schema):
        yield from (part["$ref"] for part in parts if isinstance(part, Mapping) and "$ref" in part)
