"""Arguments as JSON under a tool's schema, with llguidance: which tokens may follow, and which must."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from dualtune_mlx.errors import DecodingError, ModelError
from dualtune_mlx.grammar import new_matcher
from dualtune_mlx.tools import Tool


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
            raise ModelError(
                "the model's tokenizer cannot be used for constrained decoding",
                got=error,
                fix="use a model with a fast tokenizer (tokenizer.json)",
            ) from error


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
        self._matcher = new_matcher(tool, self._tokenizer, frame)
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
                fix="report this with the tool's schema: it is a fault of the package",
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
