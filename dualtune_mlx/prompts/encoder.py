"""Text to token ids, where only template text may become a control token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.template import Piece
from dualtune_mlx.tools.types import is_unicode


class Encoder:
    """Encodes template text and data with a Hugging Face tokenizer, or with mlx-lm's wrapper of one.

    A control token is an added token that is special or stands in brackets, such as ``<|im_end|>`` or
    ``<tool_call>``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = dict(tokenizer.added_tokens_decoder)
        control = {i: t.content for i, t in added.items() if t.special or re.fullmatch(r"[<\[].*[>\]]", t.content)}
        self.control_ids = frozenset(control)
        longest_first = sorted((re.escape(text) for text in control.values()), key=len, reverse=True)
        self._control = re.compile("|".join(longest_first) or r"(?!)")
        self._encode = partial(_encode, tokenizer)
        self._encode_again = lru_cache(maxsize=256)(self._encode)

    def encode_text(self, text: str) -> list[int]:
        """The tokens of template text. Control tokens are recognised. Texts come again and again, so some are kept."""
        return list(self._encode_again(text))

    def encode_data(self, text: str) -> list[int]:
        """The tokens of data. What looks like a control token is encoded as ordinary characters.

        Raises:
            PromptError: when the tokenizer makes a control token of ordinary characters.
        """
        ids = [i for part in self._split_controls(text) for i in self._encode(part)]
        if not self.control_ids.isdisjoint(ids):
            raise PromptError(
                "the tokenizer turns ordinary text into control tokens",
                got=text[:200],
                fix="use another model: with this tokenizer data could pose as control tokens",
            )
        return ids

    def encode_joined(self, pieces: Sequence[Piece]) -> list[int]:
        """The tokens of template text and data as one text. It is cut only inside control tokens that stand in data.

        Raises:
            PromptError: when template text and data make a control token together.
        """
        parts = [""]
        for piece in pieces:
            first, *rest = [piece.value] if piece.kind == "text" else [*self._split_controls(piece.value)] or [""]
            parts[-1] += first
            parts += rest
        ids = [i for part in parts for i in self._encode(part)]
        own = [i for piece in pieces if piece.kind == "text" for i in self.encode_text(piece.value)]
        if self._control_tokens(ids) != self._control_tokens(own):
            raise PromptError(
                "a template's text and data make control tokens together",
                got="".join(parts)[:200],
                fix="put a character between them in the template",
            )
        return ids

    def cut_before_control(self, text: str) -> str:
        """Template text up to its first control token."""
        return self._control.split(text, maxsplit=1)[0]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""
        return str(self.tokenizer.decode(ids))

    def _control_tokens(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self.control_ids]

    def _split_controls(self, text: str) -> Iterator[str]:
        """The text, cut inside everything that looks like a control token."""
        start = 0
        while match := self._control.search(text, start):
            yield text[start : match.start() + 1]
            start = match.start() + 1
        if start < len(text):
            yield text[start:]


def _encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    if not is_unicode(text):
        raise PromptError(
            "a text is not Unicode",
            got=text[:200],
            expected="text without halves of surrogate pairs",
            fix="mend it where it is decoded",
        )
    return tuple(tokenizer.encode(text, add_special_tokens=False))
