"""What a training run can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.prompts import ACTIVATIONS


@dataclass(frozen=True)
class TrainOptions:
    """One stage's training run.

    ``steps`` optimiser steps of ``batch_size`` examples; the learning rate rises linearly over
    ``warmup`` steps and then falls to zero along a cosine. The adapter is s·B·A with ``rank`` and
    ``scale`` s, in the last ``layers`` layers: below them no gradient is needed. Every
    ``validate_every`` steps the validation loss is measured (0: only at the end).
    """

    steps: int = 200
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup: int = 10
    weight_decay: float = 0.01
    rank: int = 16
    scale: float = 2.0
    layers: int = 16
    activation: str = "turn"
    validate_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "steps": self.steps >= 1,
            "batch_size": self.batch_size >= 1,
            "learning_rate": self.learning_rate > 0,
            "warmup": self.warmup >= 0,
            "weight_decay": self.weight_decay >= 0,
            "rank": self.rank >= 1,
            "layers": self.layers >= 1,
            "activation": self.activation in ACTIVATIONS,
            "validate_every": self.validate_every >= 0,
        }
        for name, holds in rules.items():
            if not holds:
                raise UsageError("a training option is out of range", where=name, got=getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
