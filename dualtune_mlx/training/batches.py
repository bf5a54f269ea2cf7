"""Examples to batches of similar length over one shared prefix."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import mlx.core as mx
import numpy as np

from dualtune_mlx.training.examples import Example

BUCKET_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Examples as arrays, all after the same prefix of ``prefix`` tokens.

    ``contexts`` (conversations, c), right-padded: what lies between the prefix and the activation points. Row r
    continues the first ``lengths[r]`` tokens of ``contexts[sources[r]]``, so that all examples of a conversation
    come from one pass over it. ``active`` (rows, a), right-padded: inputs under the adapter, without each
    row's last token. ``positions`` (targets,): where in the flattened ``active`` a target is predicted;
    ``targets``: its id.
    """

    prefix: int
    contexts: mx.array
    sources: mx.array
    lengths: mx.array
    active: mx.array
    positions: mx.array
    targets: mx.array
    padding: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed, ``padding`` of them for nothing."""
        return int(self.contexts.size + self.active.size)


def shared_prefix(examples: Sequence[Example]) -> tuple[int, ...]:
    """The tokens that all examples begin with and that no adapter acts on."""
    limit = min(example.active for example in examples)
    common = os.path.commonprefix([example.tokens[:limit] for example in examples])
    return tuple(common)


def make_batch(examples: Sequence[Example], prefix: int) -> Batch:
    """One batch of examples that share their first ``prefix`` tokens."""
    contexts, sources = _trunks([example.tokens[prefix : example.active] for example in examples])
    actives = [example.tokens[example.active : -1] for example in examples]
    width = max(len(tokens) for tokens in actives)
    positions: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        for target in example.targets:
            first = row * width + target.start - 1 - example.active
            positions += range(first, first + target.end - target.start)
            targets += example.tokens[target.start : target.end]
    arrays = _padded(contexts), _padded(actives)
    return Batch(
        prefix=prefix,
        contexts=mx.array(arrays[0]),
        sources=mx.array(sources),
        lengths=mx.array([example.active - prefix for example in examples]),
        active=mx.array(arrays[1]),
        positions=mx.array(positions),
        targets=mx.array(targets),
        padding=sum(array.size for array in arrays) - sum(map(len, contexts)) - sum(map(len, actives)),
    )


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


def epochs(examples: Sequence[Example], size: int, seed: int) -> Iterator[list[Example]]:
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


def steps_in_epoch(examples: Sequence[Example], size: int) -> int:
    """How many groups ``epochs`` makes of all examples."""
    groups = epochs(examples, size, seed=0)
    seen = steps = 0
    while seen < len(examples):
        seen += len(next(groups))
        steps += 1
    return steps


def in_order(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """Every example once, similar lengths together."""
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def _length(conversation: Sequence[Example]) -> int:
    return max(len(example.tokens) for example in conversation)


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    array = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int32)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array
