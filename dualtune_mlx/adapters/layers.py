"""Adapter layers: wrappers around a model's modules, through which one adapter at a time acts.

``LoRALinear`` wraps a linear layer. The wrappers of other modules are here; they are made when an adapter needs them.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from dualtune_mlx.adapters.lora import LayerUpdate, Linear, LoRALinear, LoRAUpdate, shape_of
from dualtune_mlx.adapters.module_weights import Embedding, ModuleWeights, SavedModule, TrainedTokenRows

Switch = SwitchLinear | QuantizedSwitchLinear


class WrappedModule(nn.Module):
    """Wraps any module. Without an active update it is that module, bit for bit.

    It takes whole weights and rows. Its subclasses also take low-rank updates.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.active_update: LayerUpdate | None = None

    def __call__(self, x: mx.array, *rest: Any, **options: Any) -> mx.array:
        update = self.active_update
        if isinstance(update, SavedModule | TrainedTokenRows):
            return update(x, self.layer, *rest)
        y: mx.array = self.layer(x, *rest, **options)
        return y + self._change(update, x, *rest, **options).astype(y.dtype) if isinstance(update, LoRAUpdate) else y

    def _change(self, update: LoRAUpdate, x: mx.array) -> mx.array:
        raise NotImplementedError  # AdapterBank refuses a low-rank update of such a module


class LoRAEmbedding(WrappedModule):
    """An embedding E: y = E[x] + s A[x] B, with ``a`` (vocabulary, rank) and ``b`` (rank, width).

    As a tied head it is the base's under a low-rank update and under saved weights, and takes token rows. All of
    this is as in PEFT.
    """

    def _change(self, update: LoRAUpdate, x: mx.array) -> mx.array:
        return update.scale * (update.a[x] @ update.b)

    def as_linear(self, x: mx.array) -> mx.array:
        """Logits (…, vocabulary) of states (…, width), where the model's head is its embedding."""
        y: mx.array = self.layer.as_linear(x)
        update = self.active_update
        return update.replace_outputs(x, y) if isinstance(update, TrainedTokenRows) else y


class LoRASwitchLinear(WrappedModule):
    """A layer of experts: y = W_e x + s B_e A_e x for each row's own expert e.

    ``a`` is (experts, rank, inputs) and ``b`` (experts, outputs, rank), as in mlx-lm.
    """

    def _change(self, update: LoRAUpdate, x: mx.array, *rest: Any, sorted_indices: bool = False) -> mx.array:
        (experts,) = rest
        for weight in (update.a, update.b):
            x = mx.gather_mm(x, weight.swapaxes(-1, -2), rhs_indices=experts, sorted_indices=sorted_indices)
        return update.scale * x


AdapterLayer = LoRALinear | WrappedModule


def wrap(module: nn.Module) -> AdapterLayer:
    """The adapter layer around a module. A module that is an adapter layer already comes back as it is."""
    if isinstance(module, AdapterLayer):
        return module
    if isinstance(module, Linear):
        return LoRALinear(module)
    if isinstance(module, Embedding):
        return LoRAEmbedding(module)
    return LoRASwitchLinear(module) if isinstance(module, Switch) else WrappedModule(module)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside an adapter layer. Any other module comes back as it is."""
    if isinstance(module, LoRALinear):
        return module.linear
    return module.layer if isinstance(module, WrappedModule) else module


def expected_shapes(module: nn.Module, update: LoRAUpdate | ModuleWeights) -> dict[str, tuple[int, ...]] | None:
    """The shapes that an update's parts must have to fit a module; None where its kind does not go with the module.

    A low-rank update may have any rank, and token rows any number.
    """
    if isinstance(update, SavedModule):
        return _weight_shapes(module)
    if isinstance(update, TrainedTokenRows):
        return _row_shapes(module, update.rows.shape[0])
    rank = update.rank
    if isinstance(module, Linear):
        inputs, outputs = shape_of(module)
        return {"a": (inputs, rank), "b": (rank, outputs)} | ({} if update.magnitude is None else {"m": (outputs,)})
    if update.magnitude is not None:
        return None
    if isinstance(module, Embedding):
        vocabulary, width = _embedding_shape(module)
        return {"a": (vocabulary, rank), "b": (rank, width)}
    if isinstance(module, Switch):
        experts = module.num_experts
        return {"a": (experts, rank, module.input_dims), "b": (experts, module.output_dims, rank)}
    return None


def _weight_shapes(module: nn.Module) -> dict[str, tuple[int, ...]] | None:
    """The shapes of a module's weight and bias, unquantised; None where it has other parameters."""
    shapes: dict[str, tuple[int, ...]]
    if isinstance(module, nn.QuantizedLinear):
        shapes = {"weight": shape_of(module)[::-1]}
    elif isinstance(module, nn.QuantizedEmbedding):
        return {"weight": _embedding_shape(module)}
    else:
        parameters = module.parameters()
        if not parameters or not parameters.keys() <= {"weight", "bias"}:
            return None
        shapes = {name: array.shape for name, array in parameters.items()}
    return {**shapes, "bias": module.bias.shape} if "bias" in module else shapes


def _row_shapes(module: nn.Module, count: int) -> dict[str, tuple[int, ...]] | None:
    if isinstance(module, Embedding):
        return {"rows": (count, _embedding_shape(module)[1]), "row_ids": (count,)}
    return {"rows": (count, shape_of(module)[0]), "row_ids": (count,)} if isinstance(module, Linear) else None


def _embedding_shape(embedding: nn.Embedding | nn.QuantizedEmbedding) -> tuple[int, int]:
    """(vocabulary, width), quantised or not."""
    vocabulary, width = embedding.weight.shape
    if isinstance(embedding, nn.QuantizedEmbedding):
        width = width * 32 // embedding.bits
    return vocabulary, width
