"""The token loop: a call's arguments, step by step, under a grammar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from dualtune_mlx.decoding.grammar import ArgumentGrammar
from dualtune_mlx.decoding.options import Decoding
from dualtune_mlx.errors import DecodingError


@dataclass(frozen=True)
class DecodeStep:
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


class DraftBuffer:
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


class Writer:
    """Arguments while they are written: what the grammar forces, and what the model chooses of what it allows."""

    def __init__(self, grammar: ArgumentGrammar, decoding: Decoding) -> None:
        self.grammar = grammar
        self.tokens: list[int] = []
        self._decoding = decoding
        self._key = mx.random.key(decoding.seed)

    @property
    def complete(self) -> bool:
        return self.grammar.complete

    @property
    def value(self) -> dict[str, Any]:
        """The JSON object, once it is complete."""
        return self.grammar.value(self.tokens)

    def forced(self) -> DecodeStep | None:
        """The step that the grammar makes by itself, where it makes one."""
        tokens = self.grammar.forced()
        self.tokens += tokens
        return DecodeStep(tuple(tokens)) if tokens else None

    def choose(self, logits: mx.array) -> DecodeStep:
        """The step that the model makes, by its logits (vocabulary,) of what follows.

        Raises:
            DecodingError: when as many tokens are written as may be.
        """
        limit = self._decoding.max_tokens
        if len(self.tokens) >= limit:
            raise DecodingError(
                "the arguments were not complete within the token budget",
                where=f"tool {self.grammar.tool.name!r}",
                got=f"{len(self.tokens)} tokens",
                expected=f"at most {limit}",
                fix="raise max_tokens, or shorten the request",
            )
        masked = mx.where(mx.array(self.grammar.allowed(logits.shape[-1])), logits, -mx.inf)
        self._key, draw = mx.random.split(self._key)
        token = chosen(masked, self._decoding.temperature, draw)
        self.grammar.append([token])
        self.tokens.append(token)
        return DecodeStep((token,), masked)


def written(writer: Writer, tape: DraftBuffer) -> Iterator[DecodeStep]:
    """Write until the arguments are complete.

    Raises:
        DecodingError: when they are not within the token budget.
    """
    while True:
        if forced := writer.forced():
            tape.append(forced.tokens)
            yield forced
        if writer.complete:
            return
        step = writer.choose(tape.logits())
        tape.append(step.tokens)
        yield step


def chosen(logits: mx.array, temperature: float, key: mx.array) -> int:
    """The most probable token at temperature 0; otherwise a draw, which the key decides."""
    if not temperature:
        token = mx.argmax(logits)
    else:
        token = mx.random.categorical(logits.astype(mx.float32) / temperature, key=key)
    return int(token.item())  # type: ignore[arg-type]
