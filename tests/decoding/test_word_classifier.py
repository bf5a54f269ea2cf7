"""What a request's words say, beside a plain computation."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from dualtune_mlx.decoding import WordClassifier, WordReading
from dualtune_mlx.decoding.word_classifier import BUCKETS, EMBEDDING_SCALE, find_buckets, join_features

WIDTH = 2
OUTPUTS = (("a/delete",), ("a/add",), ("respond",), ("a/add", "due"), ("b/add", "due"))
CENTER, SPREAD = np.array([1.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)


def make(**changes) -> WordClassifier:
    weights = np.random.default_rng(0).normal(size=(BUCKETS + WIDTH, len(OUTPUTS))).astype(np.float32)
    parts = {"weights": weights, "bias": np.arange(5, dtype=np.float32), "center": CENTER, "spread": SPREAD}
    return WordClassifier(OUTPUTS, **{**parts, **changes})


def test_a_reading_is_a_linear_function_of_words_and_embedding():
    request, embedding, classifier = "Delete the notes!", np.array([5.0, 2.0], np.float32), make()
    buckets = find_buckets(request)
    expected = [
        sum(classifier.weights[bucket, column] for bucket in buckets) / len(buckets) ** 0.5
        + classifier.weights[BUCKETS, column] * EMBEDDING_SCALE * (5 - 1) / 2
        + classifier.weights[BUCKETS + 1, column] * EMBEDDING_SCALE * 2
        + classifier.bias[column]
        for column in range(5)
    ]
    assert list(classifier.read(request, embedding).logits.values()) == pytest.approx(expected, abs=1e-4)


def test_words_pieces_pairs_and_forms_have_buckets_and_values_have_none():
    assert find_buckets("note milk") == find_buckets("Notes, MILK!")
    assert set(find_buckets("note milk")) > set(find_buckets("note")) & set(find_buckets("milk"))
    assert find_buckets("note milk") != find_buckets("milk note"), "pairs"
    assert find_buckets("note /tmp/a") == find_buckets("note /var/lib/b/c"), "a path is a path"
    assert find_buckets("note 3") != find_buckets("note it"), "a number is one"
    assert find_buckets("") == []


def test_an_empty_request_has_numbers_too():
    assert not join_features([], np.zeros(WIDTH, np.float32)).any()


def test_probabilities_are_a_softmax_among_the_tools_that_are_asked_for():
    reading = WordReading({("a",): 1.0, ("b",): 3.0, ("c",): 9.0, ("a", "x"): 0.0})
    whole = log(exp(1) + exp(3))
    assert reading.choose(["b", "a"]) == pytest.approx([3 - whole, 1 - whole])
    with pytest.raises(KeyError):
        reading.choose(["d"])


def test_each_argument_of_a_tool_has_its_own_logit():
    reading = WordReading({("a",): 1.0, ("a", "x"): 0.0, ("a", "y"): 2.0, ("b", "x"): 5.0})
    assert reading.arguments("a") == {"x": 0.0, "y": 2.0} and reading.arguments("c") == {}
    assert reading.knows("a") and not reading.knows("c")


def test_only_known_tools_are_choices():
    assert make().knows(["a/add", "respond"])
    assert not make().knows(["a/add", "b/add"])


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.zeros((BUCKETS, 5), np.float32)},
        {"bias": np.zeros(4, np.float32)},
        {"bias": np.full(5, np.nan, np.float32)},
        {"spread": np.ones(3, np.float32)},
    ],
)
def test_parts_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match="do not fit"):
        make(**changes)
