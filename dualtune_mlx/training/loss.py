"""The masked loss: gradients through the active tail only, the head at target positions only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import LoRAUpdate
from dualtune_mlx.kv import BatchOverPrefix, Snapshot
from dualtune_mlx.kv.batch import Pair
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.batches import Batch, padded
from dualtune_mlx.training.contexts import ContextCache, layers_of
from dualtune_mlx.training.grad_checkpoint import recomputed
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
    kept: ContextCache | None = None,
) -> mx.array:
    """Cross-entropy in nats, summed over the batch's target tokens (a scalar).

    ``key`` seeds the dropout; without one nothing is dropped. ``kept`` holds contexts that are known already.
    """
    caches = _caches(base, prefix, batch, kept)
    with base.bank.overriding(low_rank(weights, options, key)), recomputed(base, options.grad_checkpoint):
        states = base.hidden(batch.active, caches)
    at_targets = states.reshape(-1, states.shape[-1])[batch.positions]
    logits = base.head(at_targets).astype(mx.float32)
    return nn.losses.cross_entropy(logits, batch.targets, reduction="sum")


def low_rank(weights: Weights, options: TrainOptions, key: mx.array | None = None) -> Mapping[str, LoRAUpdate]:
    """The layers' updates made of the trainable arrays."""
    dropout = 0.0 if key is None else options.dropout
    keys = [None] * len(weights) if key is None else list(mx.random.split(key, len(weights)))
    return {
        name: LoRAUpdate.of(parts, options.scale, dropout, layer_key)
        for (name, parts), layer_key in zip(weights.items(), keys, strict=True)
    }


def _caches(base: BaseModel, prefix: Snapshot | None, batch: Batch, kept: ContextCache | None) -> list[BatchOverPrefix]:
    """The past of the active tokens; the contexts are computed here, forward only, by the base weights."""
    layers = layers_of(base, prefix)
    if not any(batch.contexts):
        return [BatchOverPrefix(layer) for layer in layers]
    contexts = kept.padded(base, prefix, batch.contexts) if kept else _computed(base, layers, batch)
    return [
        BatchOverPrefix(layer, _of_rows(context, batch.sources), batch.lengths)
        for layer, context in zip(layers, contexts, strict=True)
    ]


def _computed(base: BaseModel, layers: Sequence[Pair | None], batch: Batch) -> list[Pair]:
    caches = [BatchOverPrefix(layer, keep=True) for layer in layers]
    with base.bank.overriding({}):
        base.hidden(mx.array(padded(batch.contexts)), caches)
    return [cache.new_tokens for cache in caches]


def _of_rows(context: Pair, sources: mx.array) -> Pair:
    keys, values = context
    return mx.stop_gradient(keys[sources]), mx.stop_gradient(values[sources])
