"""The masked loss: gradients through the active tail only, the head at target positions only."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import LowRank
from dualtune_mlx.kv import BatchOverPrefix, Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.batches import Batch

Weights = dict[str, dict[str, mx.array]]
"""Trainable arrays: layer path to ``a`` and ``b``."""


def masked_loss(weights: Weights, base: BaseModel, prefix: Snapshot | None, batch: Batch, scale: float) -> mx.array:
    """Mean cross-entropy, in nats, over the target tokens of the whole batch (a scalar)."""
    caches = _caches(base, prefix, batch)
    updates = {name: LowRank(part["a"], part["b"], scale) for name, part in weights.items()}
    with base.bank.placed(updates):
        states = base.hidden(batch.active, caches)
    at_targets = states.reshape(-1, states.shape[-1])[batch.positions]
    logits = base.head(at_targets).astype(mx.float32)
    return nn.losses.cross_entropy(logits, batch.targets, reduction="mean")


def _caches(base: BaseModel, prefix: Snapshot | None, batch: Batch) -> list[BatchOverPrefix]:
    """The past of the active tokens; the contexts are computed here, forward only, by the base weights."""
    layers = prefix.layers if prefix else [None] * base.bank.num_layers
    nothing = mx.zeros_like(batch.context_padding)
    if not batch.context.shape[1]:
        return [BatchOverPrefix(layer, None, nothing, batch.prefix) for layer in layers]
    offset = batch.prefix - batch.context_padding
    past = [BatchOverPrefix(layer, None, batch.context_padding, offset) for layer in layers]
    with base.bank.placed({}):
        base.hidden(batch.context, past)
    after = offset + batch.context.shape[1]
    return [
        BatchOverPrefix(layer, _stopped(cache.appended), batch.context_padding, after)
        for layer, cache in zip(layers, past, strict=True)
    ]


def _stopped(pair: tuple[mx.array, mx.array] | None) -> tuple[mx.array, mx.array] | None:
    return None if pair is None else (mx.stop_gradient(pair[0]), mx.stop_gradient(pair[1]))
