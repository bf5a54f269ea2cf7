"""The token loop: a call's arguments, step by step, under a grammar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from dualtune_mlx.decoding.grammar import ArgumentGrammar
from dualtune_mlx.decoding.options import Decoding
from dualtune_mlx.errors import DecodingError, count_of


@dataclass(frozen=True)
class DecodeStep:
    """Tokens that one step wrote: one token that the model chose, or tokens that the grammar forced."""

    tokens: tuple[int, ...]
    logits: mx.array | None = None
    """The masked logits (vocabulary,) that the model chose by; absent where the tokens were forced."""
    unmasked: mx.array | None = None
    """The same logits before the others than the allowed ones were masked."""

    @property
    def forced(self) -> bool:
        """Whether the grammar forced the tokens."""
        return self.logits is None

    @property
    def probability(self) -> float:
        """The model's probability of the tokens among the allowed ones, at temperature 1; of forced tokens 1."""
        if self.logits is None:
            return 1.0
        logits = self.logits.astype(mx.float32)
        return float(mx.exp(logits[self.tokens[0]] - mx.logsumexp(logits)).item())  # type: ignore[arg-type]

    @property
    def allowed_share(self) -> float:
        """The probability that the model, without the grammar, gives the allowed tokens; of forced tokens 1."""
        if self.logits is None or self.unmasked is None:
            return 1.0
        allowed, all_tokens = (mx.logsumexp(one.astype(mx.float32)) for one in (self.logits, self.unmasked))
        return float(mx.exp(allowed - all_tokens).item())  # type: ignore[arg-type]


class DraftBuffer:
    """Tokens whose forward passes wait until the logits behind them are needed.

    A draft is computed together with the tokens before it. Where the draft was right, its logits are there already.
    Where it was wrong, it is taken back. So drafts change which passes are made, and never what is written.

    Args:
        tokens: the first tokens.
        extend: computes tokens and returns the logits (n, vocabulary) behind the last n of them.
        take_back: forgets the last n computed tokens.
        draft: returns tokens that may come next.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        extend: Callable[[Sequence[int], int], mx.array],
        take_back: Callable[[int], None],
        draft: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        self._extend, self._take_back, self._draft = extend, take_back, draft
        self._waiting = list(tokens)
        self._drafted: list[int] = []
        self._logits: mx.array | None = None

    def append(self, tokens: Sequence[int]) -> None:
        """Add tokens; drafted tokens are kept as long as these are the same."""
        for token in tokens:
            if self._drafted[:1] == [token]:
                self._drafted = self._drafted[1:]
                continue
            if self._drafted:
                self._take_back(len(self._drafted))
                self._drafted = []
            self._waiting.append(token)

    def logits(self) -> mx.array:
        """The logits (vocabulary,) behind the last token."""
        if self._waiting or self._logits is None:
            self._drafted = list(self._draft())
            self._logits = self._extend([*self._waiting, *self._drafted], len(self._drafted) + 1)
            self._waiting = []
        return self._logits[-1 - len(self._drafted)]


class ArgumentWriter:
    """Writes one call's arguments: the grammar forces some tokens, and the model chooses the others."""

    def __init__(self, grammar: ArgumentGrammar, decoding: Decoding) -> None:
        self.grammar = grammar
        self.tokens: list[int] = []
        self._decoding = decoding
        self._key = mx.random.key(decoding.seed)

    @property
    def complete(self) -> bool:
        """Whether the arguments are complete."""
        return self.grammar.complete

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, once they are complete."""
        return self.grammar.parse(self.tokens)

    def write_forced(self) -> DecodeStep | None:
        """Write the tokens that the grammar forces here, if there are any."""
        tokens = self.grammar.append_forced()
        self.tokens += tokens
        return DecodeStep(tuple(tokens)) if tokens else None

    def write_chosen(self, logits: mx.array) -> DecodeStep:
        """Write the token that the model chooses by its logits (vocabulary,).

        Raises:
            DecodingError: when ``max_tokens`` tokens are written already.
        """
        limit = self._decoding.max_tokens
        if len(self.tokens) >= limit:
            raise DecodingError(
                "the arguments were not complete within the token budget",
                where=f"tool {self.grammar.tool.name!r}",
                got=count_of(len(self.tokens), "token"),
                expected=f"at most {limit}",
                fix="raise max_tokens, or shorten the request",
            )
        masked = mx.where(mx.array(self.grammar.allowed_mask(logits.shape[-1])), logits, -mx.inf)
        self._key, key = mx.random.split(self._key)
        token = sample_token(masked, self._decoding.temperature, key)
        self.grammar.append([token])
        self.tokens.append(token)
        return DecodeStep((token,), masked, logits)


def write_arguments(writer: ArgumentWriter, buffer: DraftBuffer) -> Iterator[DecodeStep]:
    """Write until the arguments are complete, step by step.

    Raises:
        DecodingError: when they are not complete within the token budget.
    """
    while True:
        if forced := writer.write_forced():
            buffer.append(forced.tokens)
            yield forced
        if writer.complete:
            return
        step = writer.write_chosen(buffer.logits())
        buffer.append(step.tokens)
        yield step


def sample_token(logits: mx.array, temperature: float, key: mx.array) -> int:
    """The most probable token at temperature 0; otherwise a token drawn from logits (vocabulary,) with the key."""
    if not temperature:
        token = mx.argmax(logits)
    else:
        token = mx.random.categorical(logits.astype(mx.float32) / temperature, key=key)
    return int(token.item())  # type: ignore[arg-type]
