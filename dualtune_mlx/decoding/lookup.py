"""Prompt-lookup drafting: the tokens that followed where the last tokens stood before.

After A. Saxena, "Prompt Lookup Decoding" (2023), https://github.com/apoorvumang/prompt-lookup-decoding
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_NGRAM = 3
"""How many last tokens are looked up. Where they never stood before, fewer are."""
LONGEST_DRAFT = 8
"""How many tokens a draft has at most."""


class PromptLookup:
    """A growing sequence of tokens that remembers what followed each n-gram the last time."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._followed_at: dict[tuple[int, ...], int] = {}
        self.append(tokens)

    def append(self, tokens: Sequence[int]) -> None:
        """Add tokens to the sequence."""
        for token in tokens:
            for ngram in self._last_ngrams():
                self._followed_at[ngram] = len(self._tokens)
            self._tokens.append(token)

    def draft(self) -> list[int]:
        """The tokens that followed the longest last n-gram that stood in the sequence before; often none."""
        for ngram in self._last_ngrams():
            start = self._followed_at.get(ngram)
            if start is not None:
                return self._tokens[start : start + LONGEST_DRAFT]
        return []

    def _last_ngrams(self) -> list[tuple[int, ...]]:
        """The last n-grams of the sequence, the longest first."""
        return [tuple(self._tokens[-n:]) for n in range(min(LONGEST_NGRAM, len(self._tokens)), 0, -1)]
