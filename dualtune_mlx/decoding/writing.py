"""The token loop: a call's arguments, step by step, under a grammar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from dualtune_mlx.decoding.grammar import ArgumentGrammar
from dualtune_mlx.decoding.options import Decoding
from dualtune_mlx.errors import DecodingError


@dataclass(frozen=True)
class Step:
    """Tokens that were written: one that the model chose by its masked logits (vocabulary,), or forced ones without."""

    tokens: tuple[int, ...]
    logits: mx.array | None = None

    @property
    def forced(self) -> bool:
        return self.logits is None

    @property
    def probability(self) -> float:
        """The model's probability of the tokens among those that were allowed (at temperature 1)."""
        if self.logits is None:
            return 1.0
        logits = self.logits.astype(mx.float32)
        return float(mx.exp(logits[self.tokens[0]] - mx.logsumexp(logits)).item())  # type: ignore[arg-type]


class Tape:
    """Tokens whose forward passes are made when the logits behind them are needed.

    A draft is computed along with the tokens before it. Where it turns out right, its logits are there already;
    where it does not, it is taken back. So drafts change which passes are made, and nothing else.

    Args:
        tokens: what comes first.
        extend: computes tokens; the logits (n, vocabulary) behind the last n of them.
        take_back: forgets the last n tokens that were computed.
        draft: tokens that may come next.
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
        self._ahead: list[int] = []
        self._logits: mx.array | None = None

    def append(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if self._ahead[:1] == [token]:
                self._ahead = self._ahead[1:]
                continue
            if self._ahead:
                self._take_back(len(self._ahead))
                self._ahead = []
            self._waiting.append(token)

    def logits(self) -> mx.array:
        """The logits (vocabulary,) of what follows."""
        if self._waiting or self._logits is None:
            self._ahead = list(self._draft())
            self._logits = self._extend([*self._waiting, *self._ahead], len(self._ahead) + 1)
            self._waiting = []
        return self._logits[-1 - len(self._ahead)]


def written(grammar: ArgumentGrammar, tape: Tape, decoding: Decoding) -> Iterator[Step]:
    """Write until the grammar is complete.

    Raises:
        DecodingError: when it is not after ``decoding.max_tokens`` tokens.
    """
    count, key = 0, mx.random.key(decoding.seed)
    while True:
        if forced := grammar.forced():
            tape.append(forced)
            count += len(forced)
            yield Step(tuple(forced))
        if grammar.complete:
            return
        if count >= decoding.max_tokens:
            raise DecodingError(
                "the arguments were not complete within the token budget",
                where=f"tool {grammar.tool.name!r}",
                got=f"{count} tokens",
                expected=f"at most {decoding.max_tokens}",
                fix="raise max_tokens, or shorten the request",
            )
        logits = tape.logits()
        masked = mx.where(mx.array(grammar.allowed(logits.shape[-1])), logits, -mx.inf)
        key, draw = mx.random.split(key)
        token = chosen(masked, decoding.temperature, draw)
        grammar.append([token])
        tape.append([token])
        count += 1
        yield Step((token,), masked)


def chosen(logits: mx.array, temperature: float, key: mx.array) -> int:
    """The most probable token at temperature 0; otherwise a draw, which the key decides."""
    if not temperature:
        token = mx.argmax(logits)
    else:
        token = mx.random.categorical(logits.astype(mx.float32) / temperature, key=key)
    return int(token.item())  # type: ignore[arg-type]
