"""Slots for one update around modules other than a decoder layer's linear ones, made when an adapter needs them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from dualtune_mlx.adapters.lora import Linear, LinearUpdate, LoRALinear, LoRAUpdate, shape_of
from dualtune_mlx.adapters.module_weights import Embedding, ModuleWeights, SavedModule, TrainedTokenRows

Switch = SwitchLinear | QuantizedSwitchLinear


class WrappedModule(nn.Module):
    """Wraps any module; with an empty slot it is that module, bit for bit."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.update_slot: LinearUpdate | ModuleWeights | None = None

    def __call__(self, x: mx.array, *rest: Any, **options: Any) -> mx.array:
        update = self.update_slot
        if isinstance(update, SavedModule | TrainedTokenRows):
            return update(x, self.layer, *rest)
        y: mx.array = self.layer(x, *rest, **options)
        return y + self._change(update, x, *rest, **options).astype(y.dtype) if isinstance(update, LoRAUpdate) else y

    def _change(self, update: LoRAUpdate, x: mx.array) -> mx.array:
        raise NotImplementedError  # AdapterBank lets no low-rank update into such a slot


class LoRAEmbedding(WrappedModule):
    """An embedding E: y = E[x] + s A[x] B, with ``a`` (vocabulary, rank) and ``b`` (rank, width).

    As a tied head it stays the base's under a low-rank update and under saved weights, and takes rows of its own:
    all as PEFT has it.
    """

    def _change(self, update: LoRAUpdate, x: mx.array) -> mx.array:
        return update.scale * (update.a[x] @ update.b)

    def as_linear(self, x: mx.array) -> mx.array:
        y: mx.array = self.layer.as_linear(x)
        return self.update_slot.outputs(x, y) if isinstance(self.update_slot, TrainedTokenRows) else y


class LoRASwitchLinear(WrappedModule):
    """A layer of experts: to each row of x that of its own expert's ``a`` (experts, rank, inputs) and ``b``
    (experts, outputs, rank), as mlx-lm has them."""

    def _change(self, update: LoRAUpdate, x: mx.array, *rest: Any, sorted_indices: bool = False) -> mx.array:
        (experts,) = rest
        for weight in (update.a, update.b):
            x = mx.gather_mm(x, weight.swapaxes(-1, -2), rhs_indices=experts, sorted_indices=sorted_indices)
        return update.scale * x


AdapterLayer = LoRALinear | WrappedModule


def wrap(module: nn.Module) -> AdapterLayer:
    """A module's slot: the one that it is already, or a new one around it."""
    if isinstance(module, AdapterLayer):
        return module
    if isinstance(module, Linear):
        return LoRALinear(module)
    if isinstance(module, Embedding):
        return LoRAEmbedding(module)
    return LoRASwitchLinear(module) if isinstance(module, Switch) else WrappedModule(module)


def unwrap(slot: nn.Module) -> nn.Module:
    """The module in a slot, or a module that has none."""
    if isinstance(slot, LoRALinear):
        return slot.linear
    return slot.layer if isinstance(slot, WrappedModule) else slot


def expected_shapes(module: nn.Module, update: LoRAUpdate | ModuleWeights) -> dict[str, tuple[int, ...]] | None:
    """The shapes that an update's parts must have to fit a module, or None where its kind fits none.

    A low-rank update may have any rank, and rows any number.
    """
    if isinstance(update, SavedModule):
        return _saved_module_shapes(module)
    if isinstance(update, TrainedTokenRows):
        return _token_row_shapes(module, update.rows.shape[0])
    rank = update.rank
    if isinstance(module, Linear):
        inputs, outputs = shape_of(module)
        return {"a": (inputs, rank), "b": (rank, outputs)} | ({} if update.magnitude is None else {"m": (outputs,)})
    if update.magnitude is not None:
        return None
    if isinstance(module, Embedding):
        return {"a": (_vocabulary_and_width(module)[0], rank), "b": (rank, _vocabulary_and_width(module)[1])}
    if isinstance(module, Switch):
        experts = module.num_experts
        return {"a": (experts, rank, module.input_dims), "b": (experts, module.output_dims, rank)}
    return None


def _saved_module_shapes(module: nn.Module) -> dict[str, tuple[int, ...]] | None:
    """The shapes of a module's weight and bias, unquantised; None where it has other parameters."""
    shapes: dict[str, tuple[int, ...]]
    if isinstance(module, nn.QuantizedLinear):
        shapes = {"weight": shape_of(module)[::-1]}
    elif isinstance(module, nn.QuantizedEmbedding):
        return {"weight": _vocabulary_and_width(module)}
    else:
        parameters = module.parameters()
        if not parameters or not parameters.keys() <= {"weight", "bias"}:
            return None
        shapes = {name: array.shape for name, array in parameters.items()}
    return {**shapes, "bias": module.bias.shape} if "bias" in module else shapes


def _token_row_shapes(module: nn.Module, count: int) -> dict[str, tuple[int, ...]] | None:
    if isinstance(module, Embedding):
        return {"rows": (count, _vocabulary_and_width(module)[1]), "row_ids": (count,)}
    return {"rows": (count, shape_of(module)[0]), "row_ids": (count,)} if isinstance(module, Linear) else None


def _vocabulary_and_width(embedding: nn.Embedding | nn.QuantizedEmbedding) -> tuple[int, int]:
    vocabulary, width = embedding.weight.shape
    if isinstance(embedding, nn.QuantizedEmbedding):
        width = width * 32 // embedding.bits
    return vocabulary, width
