"""The masked loss: gradients only where the adapter acts, logits only at target positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters import LoRAUpdate
from dualtune_mlx.kv import BatchOverPrefix, KeysValues, Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.batches import Batch, pad
from dualtune_mlx.training.contexts import ContextCache, prefix_layers
from dualtune_mlx.training.grad_checkpoint import checkpoint_layers
from dualtune_mlx.training.options import TrainOptions

Weights = dict[str, dict[str, mx.array]]
"""Trainable arrays: the layer's path to ``a``, ``b`` and, with DoRA, ``m``."""


def masked_loss(
    weights: Weights,
    base: BaseModel,
    *,
    prefix: Snapshot | None,
    batch: Batch,
    options: TrainOptions,
    key: mx.array | None = None,
    contexts: ContextCache | None = None,
) -> mx.array:
    """The cross-entropy of a batch in nats, summed over its target tokens.

    Args:
        weights: the adapter's trainable arrays.
        base: the model under the adapter.
        prefix: keys and values of what all rows begin with.
        batch: the rows after this prefix.
        options: the adapter's scale and dropout; whether activations are computed again in the backward pass.
        key: seeds the dropout; without it nothing is dropped.
        contexts: keeps the keys and values of contexts; without it they are computed for this batch alone.

    Returns:
        A scalar.
    """
    caches = _caches(base, prefix, batch, contexts)
    updates = lora_updates(weights, options, key)
    with base.bank.overriding(updates), checkpoint_layers(base, options.grad_checkpoint):
        states = base.hidden(batch.active, caches)
    at_targets = states.reshape(-1, states.shape[-1])[batch.positions]
    logits = base.head(at_targets).astype(mx.float32)
    return nn.losses.cross_entropy(logits, batch.targets, reduction="sum")


def lora_updates(weights: Weights, options: TrainOptions, key: mx.array | None = None) -> Mapping[str, LoRAUpdate]:
    """The layers' updates from the trainable arrays; ``key`` seeds the dropout."""
    dropout = 0.0 if key is None else options.dropout
    keys = [None] * len(weights) if key is None else list(mx.random.split(key, len(weights)))
    return {
        name: LoRAUpdate.of(parts, options.scale, dropout, layer_key)
        for (name, parts), layer_key in zip(weights.items(), keys, strict=True)
    }


def _caches(
    base: BaseModel, prefix: Snapshot | None, batch: Batch, contexts: ContextCache | None
) -> list[BatchOverPrefix]:
    """A cache a layer with what precedes the active tokens: the prefix, and the contexts under the base weights."""
    layers = prefix_layers(base, prefix)
    if not any(batch.contexts):
        return [BatchOverPrefix(layer) for layer in layers]
    pairs = contexts.load_padded(base, prefix, batch.contexts) if contexts else _compute_contexts(base, layers, batch)
    return [
        BatchOverPrefix(layer, _select_rows(pair, batch.sources), batch.lengths)
        for layer, pair in zip(layers, pairs, strict=True)
    ]


def _compute_contexts(base: BaseModel, layers: Sequence[KeysValues | None], batch: Batch) -> list[KeysValues]:
    caches = [BatchOverPrefix(layer, keep=True) for layer in layers]
    with base.bank.overriding({}):
        base.hidden(mx.array(pad(batch.contexts)), caches)
    return [cache.new_keys_values for cache in caches]


def _select_rows(pair: KeysValues, sources: mx.array) -> KeysValues:
    keys, values = pair
    return mx.stop_gradient(keys[sources]), mx.stop_gradient(values[sources])
