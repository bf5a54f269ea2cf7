"""Examples to batches of similar length over one shared prefix."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from dualtune_mlx.training.examples import Example

BUCKET_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Examples as arrays, all after the same prefix of ``prefix`` tokens.

    ``context`` (rows, c), left-padded: what lies between the prefix and the activation point.
    ``active`` (rows, a), right-padded: inputs under the adapter, without each row's last token.
    ``positions`` (targets,): where in the flattened ``active`` a target is predicted; ``targets``: its id.
    """

    prefix: int
    context: mx.array
    context_padding: mx.array
    active: mx.array
    positions: mx.array
    targets: mx.array

    @property
    def tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return int(self.context.size + self.active.size)


def shared_prefix(examples: Sequence[Example]) -> tuple[int, ...]:
    """The tokens that all examples begin with and that no adapter acts on."""
    limit = min(example.active for example in examples)
    common = os.path.commonprefix([example.tokens[:limit] for example in examples])
    return tuple(common)


def make_batch(examples: Sequence[Example], prefix: int) -> Batch:
    contexts = [example.tokens[prefix : example.active] for example in examples]
    actives = [example.tokens[example.active : -1] for example in examples]
    width = max(len(tokens) for tokens in actives)
    positions: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        positions += range(row * width + example.start - 1 - example.active, row * width + len(actives[row]))
        targets += example.tokens[example.start :]
    return Batch(
        prefix=prefix,
        context=mx.array(_padded(contexts, left=True)),
        context_padding=mx.array([max(map(len, contexts)) - len(context) for context in contexts]),
        active=mx.array(_padded(actives, left=False)),
        positions=mx.array(positions),
        targets=mx.array(targets),
    )


def epochs(examples: Sequence[Example], batch_size: int, seed: int) -> Iterator[list[Example]]:
    """Endless shuffled groups of examples, every example once an epoch, similar lengths together."""
    generator = random.Random(seed)
    while True:
        order = generator.sample(range(len(examples)), len(examples))
        groups = []
        for start in range(0, len(order), batch_size * BUCKET_BATCHES):
            bucket = sorted(order[start : start + batch_size * BUCKET_BATCHES], key=lambda i: len(examples[i].tokens))
            groups += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
        generator.shuffle(groups)
        for group in groups:
            yield [examples[index] for index in group]


def in_order(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """Every example once, similar lengths together."""
    by_length = sorted(examples, key=lambda example: len(example.tokens))
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def _padded(rows: Sequence[Sequence[int]], left: bool) -> np.ndarray:
    width = max(len(row) for row in rows)
    array = np.zeros((len(rows), width), dtype=np.int32)
    for index, row in enumerate(rows):
        array[index, width - len(row) if left else 0 : width if left else len(row)] = row
    return array
