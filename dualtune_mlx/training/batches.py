"""Examples to batches of similar length."""

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
    """Examples as arrays, all after the same prefix of ``prefix`` tokens.

    ``contexts``: what lies between the prefix and the activation points, each conversation's once. Row r continues
    the first ``lengths[r]`` tokens of ``contexts[sources[r]]``, so that all examples of a conversation come from
    one pass over it. ``active`` (rows, a), right-padded: inputs under the adapter, without each
    row's last token. ``positions`` (targets,): where in the flattened ``active`` a target is predicted;
    ``targets``: its id.
    """

    prefix: int
    contexts: tuple[tuple[int, ...], ...]
    sources: mx.array
    lengths: mx.array
    active: mx.array
    positions: mx.array
    targets: mx.array
    padding: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed, ``padding`` of them for nothing."""
        return len(self.contexts) * max(map(len, self.contexts)) + self.active.size


def make_batch(examples: Sequence[Example], prefix: int, whole: Mapping[int, tuple[int, ...]] | None = None) -> Batch:
    """One batch of examples that share their first ``prefix`` tokens.

    ``whole`` gives the context of a conversation's last decision: it then stands for those of all of them.
    """
    own = [example.tokens[prefix : example.active] for example in examples]
    longest = [(whole or {}).get(example.conversation, ()) for example in examples]
    continued = [long if long[: len(short)] == short else short for short, long in zip(own, longest, strict=True)]
    contexts, sources = _trunks(continued)
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
    """The longest context of every conversation."""
    by_length = sorted(examples, key=lambda example: example.active)
    return {example.conversation: example.tokens[prefix : example.active] for example in by_length}


def _trunks(contexts: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The contexts that no other one begins with, and for each context the index of one that continues it."""
    trunks: list[tuple[int, ...]] = []
    sources = [0] * len(contexts)
    for index in sorted(range(len(contexts)), key=lambda i: -len(contexts[i])):
        context = contexts[index]
        found = next((n for n, trunk in enumerate(trunks) if trunk[: len(context)] == context), None)
        if found is None:
            found = len(trunks)
            trunks.append(context)
        sources[index] = found
    return trunks, sources


def iterate_steps(examples: Sequence[Example], size: int, seed: int) -> Iterator[list[Example]]:
    """Endless shuffled groups of ``size`` examples, similar lengths together, conversations in one piece.

    Every example comes once an epoch; an epoch's last group may be smaller.
    """
    conversations = [list(group) for _, group in groupby(examples, key=lambda example: example.conversation)]
    generator = random.Random(seed)
    while True:
        order = generator.sample(range(len(conversations)), len(conversations))
        groups = []
        for start in range(0, len(order), size * BUCKET_BATCHES):
            bucket = sorted(order[start : start + size * BUCKET_BATCHES], key=lambda i: _length(conversations[i]))
            rows = [example for index in bucket for example in conversations[index]]
            groups += [rows[i : i + size] for i in range(0, len(rows), size)]
        generator.shuffle(groups)
        yield from groups


def steps_per_epoch(examples: Sequence[Example], size: int) -> int:
    """How many groups ``iterate_steps`` makes of all examples."""
    groups = iterate_steps(examples, size, seed=0)
    seen = steps = 0
    while seen < len(examples):
        seen += len(next(groups))
        steps += 1
    return steps


def batches_by_length(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """Every example once, similar lengths together."""
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def _length(conversation: Sequence[Example]) -> int:
    return max(len(example.tokens) for example in conversation)


def _padding(rows: Sequence[Sequence[int]]) -> int:
    return len(rows) * max(map(len, rows)) - sum(map(len, rows))


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Token ids (rows, longest), zeros at the right."""
    array = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int32)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array
