"""Arguments as JSON under a tool's schema, with llguidance: which tokens may follow, which must."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from dualtune_mlx.errors import DecodingError, ModelError, ToolError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import checked

# The spelling of json.dumps, which is what training data is written in.
SPELLING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Enums of all spans of a conversation are large grammars (see `grounding`), beyond llguidance's own limits.
LIMITS = LLParserLimits(initial_lexer_fuel=20_000_000, max_grammar_size=5_000_000)
# Where schemas stand inside a schema: under names, or by themselves and in lists. Not `allOf`, see `closed`.
SCHEMA_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
SCHEMAS = frozenset(("items", "prefixItems", "additionalProperties", "anyOf", "oneOf"))


class GrammarTokenizer:
    """The tokenizer as llguidance needs it; building it takes some tenths of a second."""

    def __init__(self, tokenizer: Any) -> None:
        from llguidance.hf import from_tokenizer  # imports transformers, which mlx-lm must configure first

        try:
            self.tokenizer: LLTokenizer = from_tokenizer(getattr(tokenizer, "_tokenizer", tokenizer))
        except ValueError as error:
            raise ModelError("the model's tokenizer cannot be used for constrained decoding", got=error) from error


class ArgumentGrammar:
    """One call's arguments while they are written.

    ``frame`` is fixed text before and after them that may share tokens with them.

    Raises:
        ToolError: when the schema is invalid or uses a keyword that cannot be enforced.
    """

    def __init__(self, tool: Tool, tokenizer: GrammarTokenizer, frame: tuple[str, str] = ("", "")) -> None:
        self.tool, self.frame = tool, frame
        self._tokenizer = tokenizer.tokenizer
        schema = closed(checked(dict(tool.parameters), f"tool {tool.name!r}"))
        self._matcher = LLMatcher(self._tokenizer, _grammar(schema, frame), limits=LIMITS)
        if self._matcher.is_error():
            raise ToolError(
                "a tool's schema uses something that cannot be enforced while decoding",
                where=f"tool {tool.name!r}",
                got=self._matcher.get_error().splitlines()[0],
                fix="simplify the tool's input schema",
            )
        self._mask = allocate_token_bitmask(1, self._tokenizer.vocab_size)

    def forced(self) -> list[int]:
        """The tokens that must come next, already appended; often none."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            self.append(tokens)
        return tokens

    def allowed(self, vocabulary: int) -> np.ndarray:
        """Which tokens may come next: booleans (vocabulary,)."""
        fill_next_token_bitmask(self._matcher, self._mask)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little").astype(bool)
        return np.pad(bits[:vocabulary], (0, max(0, vocabulary - bits.size)))

    def append(self, tokens: Sequence[int]) -> None:
        if not self._matcher.consume_tokens(list(tokens)):
            raise DecodingError(
                "the grammar of a tool's arguments refused a token",
                where=f"tool {self.tool.name!r}",
                got=self._matcher.get_error().splitlines()[0],
            )

    def beginning(self, tokens: Sequence[int]) -> list[int]:
        """The tokens, up to the first that may not come where it stands."""
        return list(tokens[: self._matcher.validate_tokens(list(tokens))])

    def spelled(self, tokens: Sequence[int]) -> bytes:
        """What tokens spell, in UTF-8; a token may end inside a character."""
        text: bytes = self._tokenizer.decode_bytes(list(tokens))
        return text

    def value(self, tokens: Sequence[int]) -> dict[str, Any]:
        """The JSON object that complete tokens spell."""
        before, after = self.frame
        text = self.spelled(tokens).decode()
        value: dict[str, Any] = json.loads(text[len(before) : len(text) - len(after)])
        return value

    @property
    def complete(self) -> bool:
        """Whether the JSON value is whole and nothing may follow."""
        return bool(self._matcher.is_stopped())


def _grammar(schema: Mapping[str, Any], frame: tuple[str, str]) -> str:
    """llguidance's grammar of a JSON value, with fixed text around it."""
    before, after = map(json.dumps, frame)
    value = json.dumps({**schema, "x-guidance": SPELLING})
    return LLMatcher.grammar_from_lark(f"start: {before} value {after}\nvalue: %json {value}")


def closed(schema: Any) -> Any:
    """The schema with objects that list their properties closed to others, so that no key is invented.

    What ``allOf`` puts together stays open: each part would forbid the keys of the others.
    """
    return _closed(schema, frozenset(_combined(schema)))


def _closed(schema: Any, combined: frozenset[str]) -> Any:
    if isinstance(schema, list):
        return [_closed(item, combined) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    inner = dict(schema)
    for key in SCHEMA_MAPS & schema.keys():
        if isinstance(schema[key], Mapping):
            inner[key] = {
                name: item if f"#/{key}/{name}" in combined else _closed(item, combined)
                for name, item in schema[key].items()
            }
    for key in SCHEMAS & schema.keys():
        inner[key] = _closed(schema[key], combined)
    kinds = schema.get("type", "object")
    may_be_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
    if may_be_object and isinstance(schema.get("properties"), Mapping) and "allOf" not in schema:
        inner.setdefault("additionalProperties", False)
    return inner


def _combined(schema: Any) -> Iterator[str]:
    """The references that an ``allOf`` puts together with something else."""
    for value in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _combined(value)
    parts = schema.get("allOf") if isinstance(schema, Mapping) else None
    if isinstance(parts, list) and (len(parts) > 1 or "properties" in schema):
        yield from (part["$ref"] for part in parts if isinstance(part, Mapping) and "$ref" in part)
