"""The word classifier beside a plain computation."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from dualtune_mlx.decoding import RequestFeatures, WordClassifier
from dualtune_mlx.decoding.word_classifier import EMBEDDING_SCALE, words_and_pieces

CENTER, SPREAD = np.array([1.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32)
FEATURES = RequestFeatures(("delet", "note", "*^not"), CENTER, SPREAD)
WEIGHTS = np.array([[3, 0, 0], [0, 1, 0], [0, 2, 0], [1, 0, 0], [0, 0, 4]], np.float32)
CLASSIFIER = WordClassifier(("a/delete", "a/add", "respond"), FEATURES, WEIGHTS, np.array([0, 0, 1], np.float32))


def test_the_probabilities_are_those_of_a_plain_softmax():
    embedding = np.array([5.0, 2.0], np.float32)
    said = 3**-0.5
    first, second = EMBEDDING_SCALE * (5 - 1) / 2, EMBEDDING_SCALE * 2
    logits = [3 * said + first, 1 * said + 2 * said, 4 * second + 1]
    whole = log(sum(map(exp, logits)))
    logs = CLASSIFIER.log_probabilities("Delete the notes!", embedding, CLASSIFIER.choices)
    assert logs == pytest.approx([one - whole for one in logits], abs=1e-6)


def test_probabilities_are_among_the_choices_that_are_asked_for():
    logs = CLASSIFIER.log_probabilities("delete it", CENTER, ["a/add", "a/delete"])
    assert sum(map(exp, logs)) == pytest.approx(1)
    assert logs[1] - logs[0] == pytest.approx(3, abs=1e-6)


def test_only_known_tools_are_choices():
    assert CLASSIFIER.knows(["a/add", "respond"])
    assert not CLASSIFIER.knows(["a/add", "b/add"])


def test_values_are_no_words_and_pieces_have_a_mark():
    assert words_and_pieces("Note /tmp/delete.txt") == {"note", "*^not", "*note", "*ote$"}


@pytest.mark.parametrize(
    "changes",
    [{"weights": WEIGHTS[:4]}, {"bias": np.zeros(2, np.float32)}, {"weights": np.full_like(WEIGHTS, np.nan)}],
)
def test_parts_that_do_not_fit_are_refused(changes):
    parts = {"choices": CLASSIFIER.choices, "features": FEATURES, "weights": WEIGHTS, "bias": CLASSIFIER.bias}
    with pytest.raises(ValueError, match="do not fit"):
        WordClassifier(**{**parts, **changes})
