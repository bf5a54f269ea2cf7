"""Prompt lookup: what followed the longest repeated end of a sequence, the last time it stood there."""

from __future__ import annotations

import random

import pytest

from dualtune_mlx.decoding import PromptLookup
from dualtune_mlx.decoding.lookup import LONGEST_DRAFT, LONGEST_NGRAM


def brute_force(tokens: list[int]) -> list[int]:
    for n in range(min(LONGEST_NGRAM, len(tokens)), 0, -1):
        for start in range(len(tokens) - n - 1, -1, -1):
            if tokens[start : start + n] == tokens[-n:]:
                return tokens[start + n : start + n + LONGEST_DRAFT]
    return []


@pytest.mark.parametrize(
    ("tokens", "draft"),
    [
        ([], []),
        ([1], []),
        ([1, 2, 3], []),
        ([1, 2, 3, 9, 1], [2, 3, 9, 1]),
        ([1, 2, 1, 3, 1], [3, 1]),  # the last time
        ([1, 2, 7, 3, 2, 8, 1, 2], [7, 3, 2, 8, 1, 2]),  # the longest end
        ([5, 5], [5]),
        ([*range(20), 0], list(range(1, 1 + LONGEST_DRAFT))),
    ],
)
def test_what_followed_is_the_draft(tokens, draft):
    assert PromptLookup(tokens).draft() == draft


@pytest.mark.parametrize("seed", range(30))
def test_a_growing_sequence_is_looked_up_as_a_whole_one_is(seed):
    generator = random.Random(seed)
    tokens = [generator.randrange(4) for _ in range(generator.randrange(5))]
    lookup = PromptLookup(tokens)
    for _ in range(40):
        assert lookup.draft() == brute_force(tokens)
        more = [generator.randrange(4) for _ in range(generator.randrange(3))]
        lookup.append(more)
        tokens += more
