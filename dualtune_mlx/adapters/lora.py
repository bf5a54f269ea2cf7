"""A linear layer with a slot for one update: low-rank, or fused into a whole weight of its own.

LoRA (arXiv 2106.09685): y = W x + s (x A) B. DoRA (arXiv 2402.09353) also scales every output's row of
W + s (A B)ᵀ to a learned magnitude m. Fused, y = W' x, with W' = W + s (A B)ᵀ or what DoRA makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from dualtune_mlx.adapters.module_weights import ModuleWeights

Linear = nn.Linear | nn.QuantizedLinear
"""The layers that have slots."""


@dataclass(frozen=True)
class LoRAUpdate:
    """One layer's update: ``a`` (inputs, rank), ``b`` (rank, outputs), scale s, and DoRA's ``magnitude`` (outputs,).

    A layer of experts has ``a`` (experts, rank, inputs) and ``b`` (experts, outputs, rank), as in mlx-lm.

    ``norm`` (outputs,) is what ``row_norms`` gives for this update, where it is known beforehand; without it every
    pass computes it. The share ``dropout`` of the inputs is dropped only where there is also a ``key``: drawn
    from nothing else, the mask is the same one when a checkpointed pass is computed again.
    """

    a: mx.array
    b: mx.array
    scale: float
    magnitude: mx.array | None = None
    norm: mx.array | None = None
    dropout: float = 0.0
    key: mx.array | None = None

    @classmethod
    def of(
        cls, parts: Mapping[str, mx.array], scale: float, dropout: float = 0.0, key: mx.array | None = None
    ) -> LoRAUpdate:
        """The update made of its trainable ``parts``."""
        return cls(parts["a"], parts["b"], scale, parts.get("m"), dropout=dropout, key=key)

    @property
    def rank(self) -> int:
        """The rank; of experts, whose arrays are mlx-lm's, that of each."""
        return self.b.shape[-1] if self.b.ndim == 3 else self.b.shape[0]

    @property
    def parts(self) -> dict[str, mx.array]:
        """The trainable arrays: ``a`` and ``b``, and ``m`` where it is DoRA."""
        both = {"a": self.a, "b": self.b}
        return both if self.magnitude is None else {**both, "m": self.magnitude}

    @property
    def nbytes(self) -> int:
        arrays = [*self.parts.values(), *([] if self.norm is None else [self.norm])]
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class FusedWeight:
    """One layer's weight (outputs, inputs) with an update in it; the bias stays the layer's own."""

    weight: mx.array

    @classmethod
    def of(cls, linear: Linear, update: LoRAUpdate, dtype: mx.Dtype | None = None) -> FusedWeight:
        """The weight of some type, or of the layer's; nothing is evaluated."""
        return cls(merge_weight(linear, update).astype(dtype or dtype_of(linear)))

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, x: mx.array, linear: Linear) -> mx.array:
        """What the layer then gives for x, in x's type."""
        # float32 goes with any weight; with two 16-bit types, MLX would convert the whole weight in each pass.
        inputs = x if x.dtype == mx.float32 else x.astype(self.weight.dtype)
        if "bias" in linear:
            y = mx.addmm(linear.bias.astype(inputs.dtype), inputs, self.weight.T)
        else:
            y = inputs @ self.weight.T
        return y.astype(x.dtype)


LinearUpdate = LoRAUpdate | FusedWeight
"""How one adapter acts in a layer."""
LayerUpdate = LoRAUpdate | ModuleWeights | Callable[[mx.array, Linear], mx.array]
"""What a slot may hold: besides, what gives the layer's whole output for its inputs."""


class LoRALinear(nn.Module):
    """Wraps an ``nn.Linear`` or ``nn.QuantizedLinear``; with an empty slot it is that layer, bit for bit."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.linear = linear
        self.update_slot: LayerUpdate | None = None

    def __call__(self, x: mx.array) -> mx.array:
        update = self.update_slot
        if update is None:
            return self.linear(x)
        if not isinstance(update, LoRAUpdate):
            return update(x, self.linear)
        y = self.linear(x)
        kept = _drop_inputs(x, update)
        change = update.scale * ((kept @ update.a) @ update.b)
        if update.magnitude is not None:
            # As in PEFT, dropout also acts on the part of W x that the magnitude adds, not on W x itself.
            plain = y if kept is x else self.linear(kept)
            if "bias" in self.linear:
                plain = plain - self.linear.bias
            ratio = dora_ratio(self.linear, update, update.magnitude)
            change = (ratio - 1) * plain + ratio * change
        return y + change.astype(y.dtype)


def row_norms(linear: Linear, update: LoRAUpdate | None = None) -> mx.array:
    """The norms ‖W + s (A B)ᵀ‖ over the inputs, one an output (outputs,), float32; without an update ‖W‖.

    They count as constants: no gradient goes through them (arXiv 2402.09353, section 4.3).
    """
    weight = _weight(linear).astype(mx.float32)
    if update is not None:
        weight = weight + update.scale * (update.a @ update.b).T
    return mx.stop_gradient(mx.linalg.norm(weight, axis=1))


def merge_weight(linear: Linear, update: LoRAUpdate) -> mx.array:
    """W' = W + s (A B)ᵀ (outputs, inputs), float32, each row times m / ‖W'‖ with DoRA; lazily, as all of MLX."""
    a, b = update.a.astype(mx.float32), update.b.astype(mx.float32)
    weight = mx.addmm(_weight(linear).astype(mx.float32), b.T, a.T, alpha=update.scale)
    if update.magnitude is None:
        return weight
    return weight * dora_ratio(linear, update, update.magnitude)[:, None]


def dtype_of(linear: Linear) -> mx.Dtype:
    """The type of a layer's weight, for a quantised one when it is dequantised; nothing is evaluated."""
    return _weight(linear).dtype


def shape_of(linear: Linear) -> tuple[int, int]:
    """(inputs, outputs) of a layer, quantised or not."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return inputs, outputs


def dora_ratio(linear: Linear, update: LoRAUpdate, magnitude: mx.array) -> mx.array:
    """The factor m / ‖W + s (A B)ᵀ‖ of every output (outputs,)."""
    norm = row_norms(linear, update) if update.norm is None else update.norm
    # A row of zeros has no direction, and 0/0 would spread: it stays zero.
    return magnitude / mx.where(norm == 0, 1, norm)


def _drop_inputs(x: mx.array, update: LoRAUpdate) -> mx.array:
    """The inputs with a share of them zero and the others raised, so that the expectation stays; else ``x`` itself."""
    if not update.dropout or update.key is None:
        return x
    keep = 1 - update.dropout
    return mx.where(mx.random.bernoulli(keep, x.shape, key=update.key), x * (1 / keep), 0)


def _weight(linear: Linear) -> mx.array:
    """W (outputs, inputs), dequantised where it is quantised."""
    weight: mx.array = linear.weight
    if isinstance(linear, nn.QuantizedLinear):
        return mx.dequantize(
            weight,
            linear.scales,
            linear.get("biases"),
            group_size=linear.group_size,
            bits=linear.bits,
            mode=linear.mode,
        )
    return weight
