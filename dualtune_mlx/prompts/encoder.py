"""Text to token ids, where only template text may become a control token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from dualtune_mlx.errors import PromptError
from dualtune_mlx.prompts.template import Piece


class Encoder:
    """Encodes template text and data with a Hugging Face tokenizer (or mlx-lm's wrapper of one).

    A control token is an added token that is special or written in brackets, such as
    ``<|im_end|>`` or ``<tool_call>``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = dict(tokenizer.added_tokens_decoder)
        control = {i: t.content for i, t in added.items() if t.special or re.fullmatch(r"[<\[].*[>\]]", t.content)}
        self.control_ids = frozenset(control)
        longest_first = sorted((re.escape(text) for text in control.values()), key=len, reverse=True)
        self._control = re.compile("|".join(longest_first) or r"(?!)")

    def text(self, text: str) -> list[int]:
        """Template text: control tokens are recognised."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def data(self, text: str) -> list[int]:
        """Data: what looks like a control token is encoded as ordinary characters."""
        ids = [i for part in self._broken(text) for i in self.text(part)]
        if not self.control_ids.isdisjoint(ids):
            raise PromptError("the tokenizer turns ordinary text into control tokens", got=text[:200])
        return ids

    def joined(self, pieces: Sequence[Piece]) -> list[int]:
        """Pieces of text and data as one text, which is cut only inside what looks like a control token in data."""
        parts = [""]
        for piece in pieces:
            first, *rest = [piece.value] if piece.kind == "text" else [*self._broken(piece.value)] or [""]
            parts[-1] += first
            parts += rest
        ids = [i for part in parts for i in self.text(part)]
        own = [i for piece in pieces if piece.kind == "text" for i in self.text(piece.value)]
        if self._controls(ids) != self._controls(own):
            raise PromptError("a template's text and data make control tokens together", got="".join(parts)[:200])
        return ids

    def before_control(self, text: str) -> str:
        """Template text up to its first control token."""
        return self._control.split(text, maxsplit=1)[0]

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self.control_ids]

    def _broken(self, text: str) -> Iterator[str]:
        """The text, cut inside everything that looks like a control token."""
        start = 0
        while match := self._control.search(text, start):
            yield text[start : match.start() + 1]
            start = match.start() + 1
        if start < len(text):
            yield text[start:]

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids))
