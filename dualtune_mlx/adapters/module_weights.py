"""What an adapter may bring beside low-rank updates: the whole weights of a module, or some rows of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

Embedding = nn.Embedding | nn.QuantizedEmbedding
UNQUANTIZED: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: nn.Linear,
    nn.QuantizedEmbedding: nn.Embedding,
}
"""The class of a quantised module's unquantised counterpart."""


@dataclass(frozen=True)
class SavedModule:
    """A module's own weights instead of the base's: PEFT's ``modules_to_save``."""

    parts: Mapping[str, mx.array]
    """``weight``, and ``bias`` where the module has one."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.parts.values())

    def __call__(self, x: mx.array, module: nn.Module, *rest: Any) -> mx.array:
        """The module's output with these weights. The module itself is not written."""
        unquantized = UNQUANTIZED.get(type(module))
        own = copy.copy(module) if unquantized is None else unquantized.__new__(unquantized)
        if unquantized is not None:
            nn.Module.__init__(own)
        for name, array in self.parts.items():
            setattr(own, name, array)
        y: mx.array = own(x, *rest)
        return y


@dataclass(frozen=True)
class TrainedTokenRows:
    """Some rows of a weight (outputs, inputs) or (vocabulary, width): PEFT's ``trainable_token_indices``."""

    ids: mx.array
    """The rows' numbers (n,), each once."""
    rows: mx.array
    """The rows themselves (n, inputs) or (n, width)."""

    @property
    def parts(self) -> dict[str, mx.array]:
        """The arrays by the name of their tensor in a file."""
        return {"rows": self.rows, "row_ids": self.ids}

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.rows.nbytes

    def __call__(self, x: mx.array, module: nn.Module) -> mx.array:
        """The module's output with these rows: an embedding takes token ids, a linear layer takes states."""
        y: mx.array = module(x)
        if not isinstance(module, Embedding):
            return self.replace_outputs(x, y, module.get("bias"))
        found = x[..., None] == self.ids
        own = self.rows[mx.argmax(found, axis=-1)].astype(y.dtype)
        return mx.where(found.any(axis=-1, keepdims=True), own, y)

    def replace_outputs(self, x: mx.array, y: mx.array, bias: mx.array | None = None) -> mx.array:
        """A copy of ``y``, the outputs of the base's weight for ``x``, in which these rows' outputs are replaced."""
        own = x @ self.rows.T
        if bias is not None:
            own = own + bias[self.ids]
        indices = mx.broadcast_to(self.ids, own.shape)
        changed: mx.array = mx.put_along_axis(y, indices, own.astype(y.dtype), axis=-1)
        return changed


ModuleWeights = SavedModule | TrainedTokenRows


def to_module_weights(parts: Mapping[str, mx.array]) -> ModuleWeights:
    """The weights or rows that a module's tensors stand for."""
    return TrainedTokenRows(parts["row_ids"], parts["rows"]) if "rows" in parts else SavedModule(dict(parts))
