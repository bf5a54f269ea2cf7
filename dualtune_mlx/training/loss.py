"""The masked loss: gradients through the active tail only, the head at target positions only."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import LowRank
from dualtune_mlx.kv import BatchOverPrefix, Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.batches import Batch
from dualtune_mlx.training.checkpointing import recomputed
from dualtune_mlx.training.options import TrainOptions

Weights = dict[str, dict[str, mx.array]]
"""Trainable arrays: layer path to ``a``, ``b`` and, with DoRA, ``m``."""


def masked_loss(
    weights: Weights,
    base: BaseModel,
    prefix: Snapshot | None,
    batch: Batch,
    options: TrainOptions,
    key: mx.array | None = None,
) -> mx.array:
    """Cross-entropy in nats, summed over the batch's target tokens (a scalar).

    ``key`` seeds the dropout; without one nothing is dropped.
    """
    caches = _caches(base, prefix, batch)
    with base.bank.placed(low_rank(weights, options, key)), recomputed(base, options.grad_checkpoint):
        states = base.hidden(batch.active, caches)
    at_targets = states.reshape(-1, states.shape[-1])[batch.positions]
    logits = base.head(at_targets).astype(mx.float32)
    return nn.losses.cross_entropy(logits, batch.targets, reduction="sum")


def low_rank(weights: Weights, options: TrainOptions, key: mx.array | None = None) -> Mapping[str, LowRank]:
    """The layers' updates made of the trainable arrays."""
    dropout = 0.0 if key is None else options.dropout
    keys = [None] * len(weights) if key is None else list(mx.random.split(key, len(weights)))
    return {
        name: LowRank.of(parts, options.scale, dropout, layer_key)
        for (name, parts), layer_key in zip(weights.items(), keys, strict=True)
    }


def _caches(base: BaseModel, prefix: Snapshot | None, batch: Batch) -> list[BatchOverPrefix]:
    """The past of the active tokens; the contexts are computed here, forward only, by the base weights."""
    layers = prefix.layers if prefix else [None] * base.bank.num_layers
    if not batch.contexts.shape[1]:
        return [BatchOverPrefix(layer) for layer in layers]
    passed = [BatchOverPrefix(layer, keep=True) for layer in layers]
    with base.bank.placed({}):
        base.hidden(batch.contexts, passed)
    caches = []
    for layer, cache in zip(layers, passed, strict=True):
        keys, values = cache.new_tokens
        context = mx.stop_gradient(keys[batch.sources]), mx.stop_gradient(values[batch.sources])
        caches.append(BatchOverPrefix(layer, context, batch.lengths))
    return caches
