"""Batches of examples of similar length, and the examples of each optimiser step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import mlx.core as mx
import numpy as np

from dualtune_mlx.training.examples import Example

BUCKET_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Examples as arrays. All begin with the same prefix, whose keys and values are known.

    A row is an example. It continues a context, which is computed once for all examples of a conversation.
    """

    prefix: int
    """Tokens of the prefix."""
    contexts: tuple[tuple[int, ...], ...]
    """Token ids between the prefix and where the adapter begins to act."""
    sources: mx.array
    """(rows,): which of ``contexts`` a row continues."""
    lengths: mx.array
    """(rows,): how many of its context's tokens come before the row."""
    active: mx.array
    """(rows, longest), padded at the right: the tokens that the adapter acts on, without each row's last one."""
    positions: mx.array
    """(targets,): where in the flattened ``active`` each target is predicted."""
    targets: mx.array
    """(targets,): the ids that are learned."""
    padding: int
    """Computed tokens that are padding."""

    @property
    def tokens(self) -> int:
        """Computed tokens, padding included."""
        return len(self.contexts) * max(map(len, self.contexts)) + self.active.size


@dataclass
class Totals:
    """Sums over batches."""

    loss: float = 0.0
    """Loss in nats, summed over target tokens."""
    targets: int = 0
    """Target tokens."""
    tokens: int = 0
    """Computed tokens, padding included."""
    padding: int = 0
    """Padding tokens."""

    def add(self, batch: Batch, loss: float = 0.0) -> None:
        """Count a batch and its summed loss."""
        self.loss += loss
        self.targets += batch.targets.size
        self.tokens += batch.tokens
        self.padding += batch.padding


def make_batch(examples: Sequence[Example], prefix: int, whole: Mapping[int, tuple[int, ...]] | None = None) -> Batch:
    """One batch of examples that share their first ``prefix`` tokens.

    ``whole`` maps a conversation to its longest context, which then serves all its examples, in this batch and others.
    """
    own = [example.tokens[prefix : example.active] for example in examples]
    longest = [(whole or {}).get(example.conversation, ()) for example in examples]
    continued = [long if long[: len(short)] == short else short for short, long in zip(own, longest, strict=True)]
    contexts, sources = _longest_contexts(continued)
    actives = [example.tokens[example.active : -1] for example in examples]
    width = max(len(tokens) for tokens in actives)
    positions: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        for target in example.targets:
            first = row * width + target.start - 1 - example.active
            positions += range(first, first + target.end - target.start)
            targets += example.tokens[target.start : target.end]
    array = pad(actives)
    return Batch(
        prefix=prefix,
        contexts=tuple(contexts),
        sources=mx.array(sources),
        lengths=mx.array([example.active - prefix for example in examples]),
        active=mx.array(array),
        positions=mx.array(positions),
        targets=mx.array(targets),
        padding=_padding(contexts) + _padding(actives),
    )


def whole_contexts(examples: Sequence[Example], prefix: int) -> dict[int, tuple[int, ...]]:
    """Each conversation's longest context, without the prefix; what ``make_batch`` takes."""
    by_length = sorted(examples, key=lambda example: example.active)
    return {example.conversation: example.tokens[prefix : example.active] for example in by_length}


def _longest_contexts(contexts: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The contexts that no other context continues, and for each context the index of the one that contains it."""
    longest: list[tuple[int, ...]] = []
    sources = [0] * len(contexts)
    for index in sorted(range(len(contexts)), key=lambda i: -len(contexts[i])):
        context = contexts[index]
        found = next((n for n, other in enumerate(longest) if other[: len(context)] == context), None)
        if found is None:
            found = len(longest)
            longest.append(context)
        sources[index] = found
    return longest, sources


def iterate_steps(examples: Sequence[Example], size: int, seed: int) -> Iterator[list[Example]]:
    """The examples of one optimiser step after another, ``size`` of them each, without end.

    Examples of similar length, and those of a conversation, come together; the steps are shuffled. Every example
    comes once an epoch, whose last step may have fewer.
    """
    conversations = [list(group) for _, group in groupby(examples, key=lambda example: example.conversation)]
    generator = random.Random(seed)
    while True:
        order = generator.sample(range(len(conversations)), len(conversations))
        steps = []
        for start in range(0, len(order), size * BUCKET_BATCHES):
            bucket = sorted(order[start : start + size * BUCKET_BATCHES], key=lambda i: _length(conversations[i]))
            rows = [example for index in bucket for example in conversations[index]]
            steps += [rows[i : i + size] for i in range(0, len(rows), size)]
        generator.shuffle(steps)
        yield from steps


def iterate_steps_by_prefix(
    found: Sequence[Sequence[Example]], pool: int, batch_size: int, accumulate: int, seed: int
) -> Iterator[list[Example]]:
    """The examples of one optimiser step after another, where more prefixes than ``pool`` have to be kept in mind.

    The examples of ``pool`` prefixes come before those of the next ones. A step has up to ``accumulate`` batches, each
    of examples of one prefix. Every example comes once an epoch.

    Args:
        found: the examples of each prefix.
        pool: how many prefixes are used by turns.
        batch_size: examples of a batch, at most.
        accumulate: batches of a step, at most.
        seed: the same seed gives the same order.
    """
    generator = random.Random(seed)
    while True:
        order = generator.sample(range(len(found)), len(found))
        for start in range(0, len(order), pool):
            batches = []
            for index in order[start : start + pool]:
                conversations = [list(group) for _, group in groupby(found[index], key=lambda one: one.conversation)]
                rows = [example for one in sorted(conversations, key=_length) for example in one]
                batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
            generator.shuffle(batches)
            for i in range(0, len(batches), accumulate):
                yield [example for batch in batches[i : i + accumulate] for example in batch]


def steps_per_epoch(steps: Iterator[Sequence[Example]], examples: int) -> int:
    """How many steps of an iterator show each of so many examples once."""
    seen = count = 0
    while seen < examples:
        seen += len(next(steps))
        count += 1
    return count


def batches_by_length(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """Batches of at most ``batch_size`` examples, the shortest examples first; every example comes once."""
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def _length(conversation: Sequence[Example]) -> int:
    return max(len(example.tokens) for example in conversation)


def _padding(rows: Sequence[Sequence[int]]) -> int:
    return len(rows) * max(map(len, rows)) - sum(map(len, rows))


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """The rows as one array (rows, longest) of token ids, padded with zeros at the right."""
    array = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int32)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array
