"""LoRA and DoRA: a linear layer with one active update, low-rank or fused into a whole weight.

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
"""The layers that ``LoRALinear`` wraps."""


@dataclass(frozen=True)
class LoRAUpdate:
    """The low-rank update of one layer."""

    a: mx.array
    """A (inputs, rank); of a layer of experts (experts, rank, inputs), as in mlx-lm."""
    b: mx.array
    """B (rank, outputs); of a layer of experts (experts, outputs, rank)."""
    scale: float
    """s, by which A B is multiplied."""
    magnitude: mx.array | None = None
    """DoRA's m (outputs,)."""
    norm: mx.array | None = None
    """``row_norms`` of this update (outputs,), where it is known beforehand. Otherwise every pass computes it."""
    dropout: float = 0.0
    """The share of the inputs that is dropped, where there is also a ``key``."""
    key: mx.array | None = None
    """What the dropout mask is drawn from: the same mask again when a checkpointed pass is computed again."""

    @classmethod
    def of(
        cls, parts: Mapping[str, mx.array], scale: float, dropout: float = 0.0, key: mx.array | None = None
    ) -> LoRAUpdate:
        """The update whose trainable arrays are ``parts``."""
        return cls(parts["a"], parts["b"], scale, parts.get("m"), dropout=dropout, key=key)

    @property
    def rank(self) -> int:
        """The rank; of a layer of experts, that of each expert."""
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
    """A layer's weight with an update in it. The bias is the layer's own."""

    weight: mx.array
    """W' (outputs, inputs)."""

    @classmethod
    def of(cls, linear: Linear, update: LoRAUpdate, dtype: mx.Dtype | None = None) -> FusedWeight:
        """Fuse an update into a weight of this type, by default the layer's own. Nothing is evaluated."""
        return cls(merge_weight(linear, update).astype(dtype or dtype_of(linear)))

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, x: mx.array, linear: Linear) -> mx.array:
        """The layer's output for x, in the type of x."""
        # float32 goes with any weight; with two 16-bit types, MLX would convert the whole weight in each pass.
        inputs = x if x.dtype == mx.float32 else x.astype(self.weight.dtype)
        if "bias" in linear:
            y = mx.addmm(linear.bias.astype(inputs.dtype), inputs, self.weight.T)
        else:
            y = inputs @ self.weight.T
        return y.astype(x.dtype)


LinearUpdate = LoRAUpdate | FusedWeight
"""How one adapter acts in a linear layer."""
LayerUpdate = LoRAUpdate | ModuleWeights | Callable[[mx.array, Linear], mx.array]
"""What may be active in an adapter layer. A callable gives the layer's whole output for its inputs."""


class LoRALinear(nn.Module):
    """Wraps an ``nn.Linear`` or ``nn.QuantizedLinear``. Without an active update it is that layer, bit for bit."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.linear = linear
        self.active_update: LayerUpdate | None = None

    def __call__(self, x: mx.array) -> mx.array:
        update = self.active_update
        if update is None:
            return self.linear(x)
        if not isinstance(update, LoRAUpdate):
            return update(x, self.linear)
        y = self.linear(x)
        dropped = _drop_inputs(x, update)
        change = update.scale * ((dropped @ update.a) @ update.b)
        if update.magnitude is not None:
            # As in PEFT, dropout also acts on the part of W x that the magnitude adds, not on W x itself.
            plain = y if dropped is x else self.linear(dropped)
            if "bias" in self.linear:
                plain = plain - self.linear.bias
            ratio = dora_ratio(self.linear, update, update.magnitude)
            change = (ratio - 1) * plain + ratio * change
        return y + change.astype(y.dtype)


def row_norms(linear: Linear, update: LoRAUpdate | None = None) -> mx.array:
    """The norms ‖W + s (A B)ᵀ‖ over the inputs, one for each output: (outputs,), float32. Without an update ‖W‖.

    They count as constants: no gradient goes through them (arXiv 2402.09353, section 4.3).
    """
    weight = _weight(linear).astype(mx.float32)
    if update is not None:
        weight = weight + update.scale * (update.a @ update.b).T
    return mx.stop_gradient(mx.linalg.norm(weight, axis=1))


def merge_weight(linear: Linear, update: LoRAUpdate) -> mx.array:
    """W' = W + s (A B)ᵀ (outputs, inputs), float32; with DoRA each row times m / ‖W'‖. Nothing is evaluated."""
    a, b = update.a.astype(mx.float32), update.b.astype(mx.float32)
    weight = mx.addmm(_weight(linear).astype(mx.float32), b.T, a.T, alpha=update.scale)
    if update.magnitude is None:
        return weight
    return weight * dora_ratio(linear, update, update.magnitude)[:, None]


def dtype_of(linear: Linear) -> mx.Dtype:
    """The type of a layer's weight; of a quantised layer, the type when dequantised. Nothing is evaluated."""
    return _weight(linear).dtype


def shape_of(linear: Linear) -> tuple[int, int]:
    """(inputs, outputs) of a layer, quantised or not."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return inputs, outputs


def dora_ratio(linear: Linear, update: LoRAUpdate, magnitude: mx.array) -> mx.array:
    """DoRA's factor m / ‖W + s (A B)ᵀ‖ of every output: (outputs,)."""
    norm = row_norms(linear, update) if update.norm is None else update.norm
    # A row of zeros has no direction, and 0/0 would spread: it stays zero.
    return magnitude / mx.where(norm == 0, 1, norm)


def _drop_inputs(x: mx.array, update: LoRAUpdate) -> mx.array:
    """Dropout: a share of the inputs becomes zero, and the others grow so that the mean stays; else ``x`` itself."""
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
