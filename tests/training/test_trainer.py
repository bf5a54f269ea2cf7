"""The loop: what a step is, when a run ends, what is kept, and what it says when a number is not one."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import mlx.core as mx
import pytest

from dualtune_mlx.errors import TrainingError, UsageError
from dualtune_mlx.training import Trainer, TrainOptions, train
from dualtune_mlx.training.batches import batches_by_length, iterate_steps, make_batch, steps_per_epoch
from dualtune_mlx.training.checkpoints import Checkpoints
from tests import tiny
from tests.training.data import examples

SHORT = TrainOptions(steps=4, batch_size=4, rank=4, alpha=8.0, layers="all", warmup=1, validate_every=2)


def arrays(adapter):
    return {f"{name}.{key}": part for name, update in adapter.layers.items() for key, part in update.parts.items()}


def assert_close(left, right, tolerance):
    for name, array in arrays(left).items():
        assert mx.abs(array - arrays(right)[name]).max().item() <= tolerance, name


def test_training_lowers_the_loss_and_is_deterministic():
    base = tiny.model()
    found = examples(base)
    options = replace(SHORT, steps=30, learning_rate=5e-3)
    first, second = train(base, found, found, options), train(base, found, found, options)
    assert first.history[-1].loss < 0.7 * first.history[0].loss
    assert first.adapter.content_hash == second.adapter.content_hash
    assert train(base, found, found, replace(options, seed=1)).adapter.content_hash != first.adapter.content_hash
    assert first.best_step == 30
    assert first.stop_reason == "all steps were taken"


def test_epochs_of_more_steps_than_can_be_counted_are_refused():
    base = tiny.model()
    found = examples(base)
    with pytest.raises(UsageError, match="too many steps(?s:.*)epochs"):
        Trainer(base, found, found, replace(SHORT, steps=0, epochs=1e300))


@pytest.mark.parametrize("activation", ["turn", "all"])
def test_four_accumulated_batches_equal_one_of_four_times_the_size(activation):
    base = tiny.model()
    found = examples(base, activation=activation)
    # Without momentum's division by the root of a near-zero square, rounding would show as a difference of steps.
    options = replace(SHORT, steps=3, learning_rate=1e-4, activation=activation)
    whole = train(base, found, found, replace(options, batch_size=8))
    parts = train(base, found, found, replace(options, batch_size=2, accumulate=4))
    assert [p.loss for p in parts.history] == pytest.approx([p.loss for p in whole.history], rel=1e-5)
    norms = [[p.gradient_norm for p in run.history] for run in (parts, whole)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert_close(parts.adapter, whole.adapter, 1e-5)


def test_accumulation_weighs_batches_by_their_target_tokens():
    base = tiny.model()
    found = examples(base, stage="arguments")
    assert len({item.learned for item in found}) > 1
    options = replace(SHORT, steps=1, validate_every=0)
    whole = train(base, found, found, replace(options, batch_size=8)).history[0]
    single = train(base, found, found, replace(options, batch_size=1, accumulate=8)).history[0]
    assert single.loss == pytest.approx(whole.loss, rel=1e-5)


@pytest.mark.parametrize(("count", "size"), [(12, 5), (3, 8), (8, 8), (7, 1)])
def test_no_example_is_lost_in_an_epoch(count, size):
    found = examples(tiny.model(), count)
    steps = steps_per_epoch(iterate_steps(found, size, seed=3), len(found))
    groups = list(islice(iterate_steps(found, size, seed=3), 2 * steps))
    for epoch in (groups[:steps], groups[steps:]):
        assert sorted(item.name for group in epoch for item in group) == sorted(item.name for item in found)
    assert groups[:steps] != groups[steps:] or count <= size


def test_a_set_smaller_than_the_batch_trains():
    base = tiny.model()
    found = examples(base, 3)
    trained = train(base, found, found, replace(SHORT, batch_size=8, steps=0, epochs=2.0))
    assert len(trained.history) == 2


def test_batches_hold_little_padding():
    base = tiny.model()
    found = examples(base, 60)
    apart = sum(make_batch(found[i : i + 6], 0).padding for i in range(0, 60, 6))
    together = sum(make_batch(group, 0).padding for group in batches_by_length(found, 6))
    assert together < apart / 3
    assert train(base, found, found, replace(SHORT, steps=2)).history[-1].padding > 0


def test_the_best_weights_are_kept_and_patience_ends_a_run():
    base = tiny.model()
    found = examples(base)
    options = replace(SHORT, steps=60, learning_rate=0.3, schedule="constant", validate_every=1, patience=3, clip=1.0)
    trained = train(base, found[:4], found[4:], options)
    assert len(trained.history) == trained.best_step + 3 < 60
    assert "no better validation loss in 3" in trained.stop_reason
    losses = [progress.validation_loss for progress in trained.history]
    assert trained.validation_loss == min(losses) == losses[trained.best_step - 1]
    trainer = Trainer(base, found[:4], found[4:], options)
    weights = {name: update.parts for name, update in trained.adapter.layers.items()}
    assert trainer.validation_loss(weights) == pytest.approx(trained.validation_loss, rel=1e-6)


def test_a_callback_can_end_a_run():
    base = tiny.model()
    found = examples(base)
    trained = train(base, found, found, SHORT, lambda progress: progress.step == 2)
    assert (len(trained.history), trained.stop_reason) == (2, "stopped by the caller")
    trained = train(base, found, found, replace(SHORT, validate_every=0), lambda progress: progress.step == 1)
    assert trained.best_step == 1


def test_clipping_limits_the_step():
    base = tiny.model()
    found = examples(base)
    free = train(base, found, found, replace(SHORT, steps=1))
    clipped = train(base, found, found, replace(SHORT, steps=1, clip=free.history[0].gradient_norm / 1e6))
    assert clipped.history[0].gradient_norm == free.history[0].gradient_norm
    assert clipped.adapter.content_hash != free.adapter.content_hash


@pytest.mark.parametrize("schedule", ["cosine", "linear", "exponential", "constant"])
def test_the_learning_rate_rises_and_follows_its_schedule(schedule):
    base = tiny.model()
    found = examples(base, 4)
    options = replace(SHORT, steps=12, warmup=4, schedule=schedule, learning_rate=1e-3, validate_every=0)
    rates = [progress.learning_rate for progress in train(base, found, found, options).history]
    assert rates[0] < rates[1] < rates[3] < rates[4] + 1e-9
    assert max(rates) == pytest.approx(1e-3)
    fallen = {"cosine": 0.1, "linear": 0.2, "exponential": 0.05, "constant": 1.0}[schedule]
    assert rates[-1] <= fallen * 1e-3 + 1e-9
    assert (rates[-1] == rates[5]) == (schedule == "constant")


def test_a_number_that_is_not_finite_ends_the_run_and_names_the_examples(tmp_path):
    base = tiny.model()
    found = examples(base)
    options = replace(SHORT, steps=6, learning_rate=1e30, schedule="constant", warmup=0, checkpoint_every=1)
    trainer = Trainer(base, found, found, options)
    checkpoints = Checkpoints(tmp_path, "run", keep=3)
    with pytest.raises(
        TrainingError, match=r"not a finite number\s+where: step \d+: line \d+, decision 1, line"
    ) as caught:
        trainer.run(trainer.initial_state(), checkpoints=checkpoints)
    state = checkpoints.latest()
    assert state is not None
    assert f"step {state.step + 1}:" in str(caught.value)
    assert all(mx.isfinite(part).all() for parts in state.weights.values() for part in parts.values())
    assert base.bank.active is None
