"""Of which strings the model was sure: by the probability of each one's own tokens."""

from __future__ import annotations

import json
import random

import pytest

from dualtune_mlx.decoding import find_unsure_strings

EDITS = '[{"old": "a", "new": "b"}, {"old": "c", "new": "d"}]'
TEXT = f'{{"path": "größe.txt", "n": 3, "edits": {EDITS}, "zone": null, "x": []}}'


def pieces(text: str, unsure: dict[str, float], cut: int = 1) -> list[tuple[bytes, float]]:
    """The text in pieces of ``cut`` bytes; those that begin with a marked text have its probability."""
    raw = text.encode()
    found = [(raw[i : i + cut], 1.0) for i in range(0, len(raw), cut)]
    for marked, probability in unsure.items():
        at = raw.index(marked.encode()) // cut
        found[at] = (found[at][0], probability)
    return found


@pytest.mark.parametrize(
    ("unsure", "paths"),
    [
        ({}, set()),
        ({"txt": 0.51}, set()),
        ({"txt": 0.5}, {"path"}),
        ({"gr": 0.7, "txt": 0.7}, {"path"}),
        ({'a"': 0.1}, {"edits[].old"}),
        ({'"d"': 0.1}, {"edits[].new"}),
        ({'"größe': 0.1}, {"path"}),
        ({'", "n"': 0.1}, {"path"}),  # the closing quotation mark
        ({"3,": 0.1}, set()),  # a number is no string
        ({"null": 0.1}, set()),
        ({"edits": 0.1, "zone": 0.1}, set()),  # nor is a name a value
    ],
)
def test_a_string_with_half_of_the_probability_or_less_is_unsure(unsure, paths):
    assert find_unsure_strings(pieces(TEXT, unsure)) == paths


def test_a_piece_that_crosses_a_border_counts_for_both_sides():
    split = [(b'{"a": ["x', 1.0), (b'", "', 0.4), (b'y"], "b": "z"}', 1.0)]
    assert find_unsure_strings(split) == {"a[]"}
    split = [(b'{"a": "x', 1.0), (b'", "b": "', 0.4), (b'z"}', 1.0)]
    assert find_unsure_strings(split) == {"a", "b"}


@pytest.mark.parametrize("seed", range(20))
def test_every_string_of_any_arguments_is_found(seed):
    generator = random.Random(seed)

    def value(depth: int) -> object:
        kind = generator.randrange(6 if depth else 4)
        if kind == 4:
            return [value(depth - 1) for _ in range(generator.randrange(3))]
        if kind == 5:
            return {generator.choice('ab"é,: ') * n: value(depth - 1) for n in range(1, generator.randrange(1, 4))}
        word = "".join(generator.choice('ab"\\é,:{}[] ') for _ in range(generator.randrange(5)))
        return [word, 1.5, None, True][kind]

    def paths(item: object, path: str) -> set[str]:
        if isinstance(item, str):
            return {path}
        if isinstance(item, dict):
            return {p for k, v in item.items() for p in paths(v, f"{path}.{k}" if path else k)}
        return {p for v in item for p in paths(v, f"{path}[]")} if isinstance(item, list) else set()

    arguments = {f"p{i}": value(3) for i in range(4)}
    text = json.dumps(arguments, ensure_ascii=False)
    raw = text.encode()
    assert find_unsure_strings([(raw[i : i + 2], 0.1) for i in range(0, len(raw), 2)]) == paths(arguments, "")
    assert find_unsure_strings([(raw, 1.0)]) == set()


def test_a_frame_around_the_arguments_is_passed_over():
    framed = [(b" ", 0.1), *pieces(TEXT, {"txt": 0.5}), (b"}", 0.1)]
    assert find_unsure_strings(framed, start=1) == {"path"}
