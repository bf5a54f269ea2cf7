"""The weights that tell what a request says are those that the corpus gives."""

from __future__ import annotations

import pytest

from dualtune_mlx.decoding import said
from dualtune_mlx.start.domain import keep_usable
from dualtune_mlx.start.said import fit_said
from dualtune_mlx.start.sources.corpus import read_corpus


@pytest.mark.slow
def test_the_weights_are_those_that_the_corpus_gives():
    weights, usual = fit_said([keep_usable(domain) for domain in read_corpus()])
    assert pytest.approx(weights, abs=0.006) == said.WEIGHTS
    assert pytest.approx(usual, abs=0.006) == said.USUAL
