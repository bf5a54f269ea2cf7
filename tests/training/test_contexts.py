"""Kept contexts: the same loss and gradients, computed once, within the budget, and never another model's."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import pytest

from dualtune_mlx.training import Trainer
from dualtune_mlx.training.batches import make_batch
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.examples import stage_examples
from dualtune_mlx.training.loss import masked_loss
from tests import tiny
from tests.training.data import base_prefix
from tests.training.test_loss import TRAJECTORIES, assert_equal, options, start_weights


def prepare(base, activation="turn"):
    renderer = tiny.renderer(base)
    examples = stage_examples(TRAJECTORIES, renderer, "selector", activation).examples
    prefix = base_prefix(base, examples)
    return examples, prefix, make_batch(examples, len(prefix.tokens))


@pytest.mark.parametrize("activation", ["turn", "invocation"])
@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_loss_and_gradients_are_the_same(kind, activation):
    base = tiny.model(kind=kind)
    _, prefix, batch = prepare(base, activation)
    given = options(activation)
    loss_and_gradients, weights, cache = mx.value_and_grad(masked_loss), start_weights(base, given), ContextCache(1e9)
    given_batch = {"prefix": prefix, "batch": batch, "options": given}
    plain = loss_and_gradients(weights, base, **given_batch)
    for hits in (0, len(batch.contexts)):
        assert_equal(loss_and_gradients(weights, base, **given_batch, contexts=cache), plain)
        assert cache.hits == hits


def test_a_second_epoch_computes_no_context_and_a_conversation_is_kept_once():
    base = tiny.model()
    cache = ContextCache(1e9)
    given = replace(options("invocation"), steps=0, epochs=3.0, batch_size=2, validate_every=0)
    examples, *_ = prepare(base, "invocation")
    trainer = Trainer(base, examples, examples[:1], given, contexts=cache)
    trainer.run(trainer.initial_state())
    assert cache.misses == len(TRAJECTORIES)
    assert cache.hits > 2 * cache.misses


def test_what_does_not_fit_is_computed_again():
    base = tiny.model()
    _, prefix, batch = prepare(base)
    full, small = ContextCache(1e9), ContextCache(1e9)
    full.load_padded(base, prefix, batch.contexts)
    small.budget = full.nbytes - 1
    for _ in range(2):
        pairs = small.load_padded(base, prefix, batch.contexts)
        assert 0 < small.nbytes <= small.budget
    assert small.hits == len(batch.contexts) - 1
    assert all(
        mx.array_equal(left, right)
        for pair, other in zip(pairs, full.load_padded(base, prefix, batch.contexts), strict=True)
        for left, right in zip(pair, other, strict=True)
    )


def test_another_model_or_prefix_has_its_own():
    base, other = tiny.model(0), tiny.model(1)
    examples, prefix, batch = prepare(base)
    cache = ContextCache(1e9)
    cache.load_padded(base, prefix, batch.contexts)
    cache.load_padded(other, base_prefix(other, examples), batch.contexts)
    cache.load_padded(base, None, batch.contexts)
    assert cache.hits == 0
