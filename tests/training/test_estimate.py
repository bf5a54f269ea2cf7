"""The predicted peak against the peak of the run itself, on the embedded model."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import pytest

from dualtune_mlx.errors import TrainingError
from dualtune_mlx.models import load_model
from dualtune_mlx.training import Group, Trainer, TrainOptions, estimate
from dualtune_mlx.training.estimate import GIB, RunEstimate, check_budget, estimate_run, estimate_time, measure_pace
from dualtune_mlx.training.trainer import StepCost
from tests import tiny
from tests.training.data import examples


@pytest.fixture(scope="module")
def base():
    return load_model("smollm2-135m")


@pytest.mark.model
@pytest.mark.parametrize("batch_size", [2, 4, 8])
@pytest.mark.parametrize("activation", ["invocation", "turn", "all"])
def test_the_predicted_peak_is_within_a_fifth_of_the_measured_one(base, activation, batch_size):
    found = examples(base, 16, "arguments", activation)
    options = TrainOptions(steps=2, batch_size=batch_size, activation=activation, validate_every=0)
    trainer = Trainer(base, found, found[:1], options)
    predicted = estimate_run(trainer)
    trainer = Trainer(base, found, found[:1], options)
    trained = trainer.run(trainer.initial_state())
    measured = max(progress.peak_memory for progress in trained.history)
    assert predicted.peak(batch_size) == pytest.approx(measured, rel=0.2)
    fits = predicted.largest_batch(measured * 1.2)
    assert fits >= batch_size
    assert predicted.peak(fits) <= measured * 1.2 < predicted.peak(fits + 1)


ESTIMATE = RunEstimate(1.0 * GIB, 0.5 * GIB, 1 * GIB, batch_size=4)


def test_the_peak_is_linear_in_the_batch():
    assert ESTIMATE.peak(4) == 3 * GIB
    assert ESTIMATE.largest_batch(3 * GIB) == 4
    assert ESTIMATE.largest_batch(1.2 * GIB) == 0
    assert ESTIMATE.largest_batch(0.5 * GIB) == 0
    assert replace(ESTIMATE, update=5 * GIB).peak(4) == 5 * GIB


@pytest.mark.parametrize(("budget", "fix"), [(2.6, "batch size of 3 and accumulate"), (1.2, "grad_checkpoint")])
def test_a_run_beyond_the_budget_is_refused_with_what_fits(budget, fix):
    with pytest.raises(TrainingError, match=rf"3.00 GiB with batches of 4(?s:.*)at most {budget} GiB(?s:.*){fix}"):
        check_budget(ESTIMATE, budget, "selector")
    check_budget(ESTIMATE, 3.0, "selector")
    check_budget(ESTIMATE, 0.0, "selector")


class Clock:
    """A trainer whose batches take as many seconds as they have examples, and those of validation a tenth."""

    def __init__(self, base, options, monkeypatch):
        found = examples(base, 20)
        self.trainer, self.now, self.taken = Trainer(base, found, found[:6], options), 0.0, []
        monkeypatch.setattr(estimate, "perf_counter", lambda: self.now)
        monkeypatch.setattr(self.trainer, "measure_step", self.step)
        monkeypatch.setattr(self.trainer, "sum_losses", self.validate)

    def step(self, rows):
        self.taken.append(len(rows))
        return StepCost(0, 0, 1000.0 if len(self.taken) == 1 else len(rows) + len(self.taken) / 10)

    def validate(self, weights, batches):
        self.now += 0.1 * sum(len(rows) for _, rows in batches)


@pytest.mark.parametrize(
    ("changes", "batches", "validations"),
    [
        ({"validate_every": 10}, 30, 3),
        ({"validate_every": 20}, 30, 2),
        ({"validate_every": 0}, 30, 1),
        ({"validate_every": 0, "accumulate": 3}, 90, 1),
    ],
)
def test_the_time_is_that_of_all_batches_and_validations_without_the_first_slow_one(
    changes, batches, validations, monkeypatch
):
    options = TrainOptions(steps=30, batch_size=2, rank=4, **changes)
    time = estimate_time(Clock(tiny.model(), options, monkeypatch).trainer)
    validating = validations * 3 * 0.2
    assert time.least == pytest.approx(batches * 2.2 + validating)
    assert time.likely == pytest.approx(batches * 2.4 + validating)
    assert time.greatest == pytest.approx(batches * 2.6 + validating)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 1), (3, 3)])
def test_the_pace_is_that_of_a_second_batch_of_middling_length(accumulate, steps, monkeypatch):
    options = TrainOptions(steps=30, batch_size=2, rank=4, accumulate=accumulate)
    clock = Clock(tiny.model(), options, monkeypatch)
    pace = measure_pace(clock.trainer)
    assert clock.taken == [2, 2]
    assert pace.step == pytest.approx(steps * 2.2)
    assert pace.validation == pytest.approx(estimate.FORWARD * 3 * 2.2), "six examples are three batches"


def test_the_time_of_a_run_is_within_its_range():
    base = tiny.model()
    found = examples(base, 20)
    trainer = Trainer(base, found, found[:8], TrainOptions(steps=30, batch_size=4, rank=4, validate_every=10))
    time = estimate_time(trainer)
    began = perf_counter()
    trainer.run(trainer.initial_state())
    assert time.least / 6 < perf_counter() - began < time.greatest * 6  # other programs may run at one of the times


def test_every_process_of_several_measures_a_whole_batch():
    base = tiny.model()
    found = examples(base, 8)
    options = TrainOptions(steps=2, batch_size=8, rank=4)
    trainers = (Trainer(base, found, found[:1], options, group=group) for group in (Group(), Group(1, 2)))
    # How soon a buffer is given back depends on the threads: the highest of some peaks does not.
    alone, second = (max(trainer.measure_step(found).gradients for _ in range(6)) for trainer in trainers)
    assert second == pytest.approx(alone, rel=0.05)
