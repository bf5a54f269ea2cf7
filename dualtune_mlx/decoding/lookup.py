"""Prompt-lookup drafting: what followed the last tokens when they stood in the conversation before.

After A. Saxena, "Prompt Lookup Decoding" (2023), https://github.com/apoorvumang/prompt-lookup-decoding
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 3
"""The longest end of the sequence that is looked up; where it never stood before, shorter ones are."""
DRAFT = 8
"""The longest draft."""


class Lookup:
    """A growing sequence of tokens that remembers what followed each n-gram the last time."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self.append(tokens)

    def append(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            for ngram in self._ends():
                self._after[ngram] = len(self._tokens)
            self._tokens.append(token)

    def draft(self) -> list[int]:
        """The tokens that followed the longest end of the sequence that stood in it before; often none."""
        for ngram in self._ends():
            start = self._after.get(ngram)
            if start is not None:
                return self._tokens[start : start + DRAFT]
        return []

    def _ends(self) -> list[tuple[int, ...]]:
        return [tuple(self._tokens[-n:]) for n in range(min(NGRAM, len(self._tokens)), 0, -1)]
