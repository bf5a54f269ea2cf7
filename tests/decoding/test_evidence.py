"""Lexical evidence: joined with a model's probabilities, and fitted to choices whose outcome is known."""

from __future__ import annotations

import random
from dataclasses import replace
from math import exp, inf, log

import pytest

from dualtune_mlx.decoding.evidence import Evidence, KnownChoice, fit_evidence, join, log_sum
from dualtune_mlx.errors import DataError


def plain_join(choice: KnownChoice, evidence: Evidence) -> list[float]:
    weights = [
        p**evidence.sharpness * exp(evidence.weight * score)
        for p, score in zip(choice.probabilities, choice.scores, strict=False)
    ]
    weights.append(choice.probabilities[-1] ** evidence.sharpness * exp(evidence.respond))
    return [one / sum(weights) for one in weights]


def draw_choices(count: int, truth: Evidence, seed: int = 1) -> list[KnownChoice]:
    """Choices whose outcome is drawn from the joined probabilities."""
    rng, choices = random.Random(seed), []
    for _ in range(count):
        logits = [rng.gauss(0, 2) for _ in range(rng.randint(3, 9))]
        shares = [exp(one - log_sum(logits)) for one in logits]
        choice = KnownChoice(tuple(shares), tuple(rng.random() for _ in logits[1:]), 0)
        right = rng.choices(range(len(shares)), plain_join(choice, truth))[0]
        choices.append(replace(choice, right=right))
    return choices


def likelihood(choices: list[KnownChoice], evidence: Evidence) -> float:
    return sum(log(plain_join(one, evidence)[one.right]) for one in choices)


def test_joined_probabilities_are_those_of_the_plain_formula() -> None:
    evidence = Evidence(weight=3.0, respond=-0.5, sharpness=0.7)
    for choice in draw_choices(20, evidence):
        gains = [*(evidence.weight * one for one in choice.scores), evidence.respond]
        joined = join(choice.probabilities, gains, evidence.sharpness)
        assert joined == pytest.approx(plain_join(choice, evidence))
        assert sum(joined) == pytest.approx(1)


def test_without_evidence_probabilities_stay() -> None:
    assert join([0.5, 0.25, 0.25], [0, 0, 0]) == pytest.approx([0.5, 0.25, 0.25])


def test_what_the_model_rules_out_stays_out() -> None:
    assert join([1.0, 0.0], [0, 500]) == [1, 0]


def test_the_sum_of_far_apart_numbers() -> None:
    assert log_sum([1000.0, 1000.0, -1000.0]) == pytest.approx(1000 + log(2))
    assert log_sum([]) == log_sum([-inf]) == -inf


def test_the_fit_finds_the_numbers_that_the_choices_were_drawn_with() -> None:
    truth = Evidence(weight=4.0, respond=1.5, sharpness=0.6, shown=5)
    fitted = fit_evidence(draw_choices(4000, truth), shown=5)
    assert fitted.weight == pytest.approx(4, abs=0.3)
    assert fitted.respond == pytest.approx(1.5, abs=0.3)
    assert fitted.sharpness == pytest.approx(0.6, abs=0.05)
    assert fitted.shown == 5


def test_no_number_nearby_makes_the_right_choices_more_probable() -> None:
    choices = draw_choices(300, Evidence(weight=2.0, respond=-1.0, sharpness=1.2))
    fitted = fit_evidence(choices)
    best = likelihood(choices, fitted)
    for name in ("weight", "respond", "sharpness"):
        for change in (-0.2, 0.2):
            assert likelihood(choices, replace(fitted, **{name: getattr(fitted, name) + change})) < best


def test_the_numbers_stay_finite_where_words_decide_everything() -> None:
    choices = [KnownChoice((0.2, 0.3, 0.5), (1.0, 0.0), 0), KnownChoice((0.9, 0.0, 0.1), (0.0, 1.0), 1)]
    fitted = fit_evidence(choices * 50)
    assert 1 < fitted.weight < 100


def test_nothing_is_fitted_to_nothing() -> None:
    with pytest.raises(DataError, match="no choices"):
        fit_evidence([])


def test_evidence_is_written_and_read() -> None:
    evidence = Evidence(weight=5.5, respond=2.0, sharpness=0.8, shown=6)
    assert Evidence.from_dict(evidence.to_dict()) == evidence


@pytest.mark.parametrize(
    "value", [{"weight": "5"}, {"weight": True}, {"shown": 0}, {"shown": 2.5}, {"respond": inf}, {"bias": 1.0}]
)
def test_what_is_no_evidence_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Evidence.from_dict(value)
