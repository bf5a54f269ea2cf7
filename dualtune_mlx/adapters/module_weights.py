"""What an adapter may bring beside low-rank updates: a module's whole weights, or some rows of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

Embedding = nn.Embedding | nn.QuantizedEmbedding
PLAIN: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.QuantizedLinear: nn.Linear,
    nn.QuantizedEmbedding: nn.Embedding,
}
"""What a quantised module is with weights that are not."""


@dataclass(frozen=True)
class SavedModule:
    """A module's own ``weight``, and ``bias`` where it has one, instead of the base's: PEFT's ``modules_to_save``."""

    parts: Mapping[str, mx.array]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.parts.values())

    def __call__(self, x: mx.array, module: nn.Module, *rest: Any) -> mx.array:
        """What the module gives with these weights; nothing of its own is written."""
        kind = PLAIN.get(type(module))
        own = copy.copy(module) if kind is None else kind.__new__(kind)
        if kind is not None:
            nn.Module.__init__(own)
        for name, array in self.parts.items():
            setattr(own, name, array)
        y: mx.array = own(x, *rest)
        return y


@dataclass(frozen=True)
class TrainedTokenRows:
    """Some rows of a weight (outputs, inputs) or (vocabulary, width): PEFT's ``trainable_token_indices``.

    ``ids`` (n,) are the rows' numbers, each once; ``rows`` (n, inputs) stand there instead.
    """

    ids: mx.array
    rows: mx.array

    @property
    def parts(self) -> dict[str, mx.array]:
        return {"rows": self.rows, "row_ids": self.ids}

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.rows.nbytes

    def __call__(self, x: mx.array, module: nn.Module) -> mx.array:
        """What the module gives with these rows: an embedding for token ids, a linear layer for states."""
        y: mx.array = module(x)
        if not isinstance(module, Embedding):
            return self.outputs(x, y, module.get("bias"))
        found = x[..., None] == self.ids
        own = self.rows[mx.argmax(found, axis=-1)].astype(y.dtype)
        return mx.where(found.any(axis=-1, keepdims=True), own, y)

    def outputs(self, x: mx.array, y: mx.array, bias: mx.array | None = None) -> mx.array:
        """``y``, the outputs of the base's weight for ``x``, with those of these rows in their places."""
        own = x @ self.rows.T
        if bias is not None:
            own = own + bias[self.ids]
        places = mx.broadcast_to(self.ids, own.shape)
        changed: mx.array = mx.put_along_axis(y, places, own.astype(y.dtype), axis=-1)
        return changed


ModuleWeights = SavedModule | TrainedTokenRows


def module_weights_of(parts: Mapping[str, mx.array]) -> ModuleWeights:
    """What the tensors of a module make: rows, or weights."""
    return TrainedTokenRows(parts["row_ids"], parts["rows"]) if "rows" in parts else SavedModule(dict(parts))
