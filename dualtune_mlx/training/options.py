"""What a training run can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import sqrt
from typing import Any

from dualtune_mlx.adapters import LAYERS, LAYERS_FORM
from dualtune_mlx.errors import UsageError
from dualtune_mlx.prompts import ACTIVATIONS
from dualtune_mlx.training.schedules import SCHEDULES


@dataclass(frozen=True)
class TrainOptions:
    """One stage's training run.

    A step updates the adapter once, from ``batch_size`` times ``accumulate`` examples, ``batch_size`` at once.
    The run takes ``steps`` steps or, where ``steps`` is 0, goes ``epochs`` times over all examples. The learning
    rate rises linearly over ``warmup`` steps and then follows ``schedule``. ``clip`` limits the gradient's norm
    (0: no limit).

    The adapter is s·B·A of ``rank`` r with s = alpha / r, or alpha / sqrt(r) with ``rslora`` (arXiv 2312.03732);
    ``dora`` also learns every output's magnitude (arXiv 2402.09353). It changes the linear layers whose names
    inside a decoder layer match one of ``targets`` (``"*"``: all, ``"self_attn.*"``), in ``layers`` ("all",
    "last:16", "first:8"): below the first of them no gradient is needed.

    Every ``validate_every`` steps (0: only at the end) the validation loss is measured; after ``patience``
    measurements without improvement the run ends (0: never before its time). Every ``checkpoint_every`` steps
    (0: never) the whole state is kept, the latest ``keep`` of them.

    A conversation longer than ``window`` tokens (0: as long as the model was made for) loses its oldest exchanges.
    ``grad_checkpoint`` computes activations again in the backward pass instead of keeping them. Up to
    ``keep_contexts`` GiB of the conversations' base-model KV are kept from epoch to epoch. The run is
    refused when it would need more than ``memory_budget`` GiB (0: no limit).
    """

    steps: int = 200
    epochs: float = 0.0
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    warmup: int = 10
    weight_decay: float = 0.01
    clip: float = 0.0
    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = ("*",)
    layers: str = "last:16"
    activation: str = "turn"
    validate_every: int = 50
    patience: int = 0
    checkpoint_every: int = 100
    keep: int = 2
    window: int = 0
    grad_checkpoint: bool = False
    keep_contexts: float = 0.0
    memory_budget: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "steps": self.steps >= 0,
            "epochs": self.epochs >= 0 and (self.epochs > 0) != (self.steps > 0),
            "batch_size": self.batch_size >= 1,
            "accumulate": self.accumulate >= 1,
            "learning_rate": self.learning_rate > 0,
            "schedule": self.schedule in SCHEDULES,
            "warmup": self.warmup >= 0,
            "weight_decay": self.weight_decay >= 0,
            "clip": self.clip >= 0,
            "rank": self.rank >= 1,
            "alpha": self.alpha > 0,
            "dropout": 0 <= self.dropout < 1,
            "targets": bool(self.targets) and all(self.targets),
            "layers": bool(LAYERS.fullmatch(self.layers)),
            "activation": self.activation in ACTIVATIONS,
            "validate_every": self.validate_every >= 0,
            "patience": self.patience == 0 or (self.patience > 0 and self.validate_every > 0),
            "checkpoint_every": self.checkpoint_every >= 0,
            "keep": self.keep >= 1,
            "window": self.window >= 0,
            "keep_contexts": self.keep_contexts >= 0,
            "memory_budget": self.memory_budget >= 0,
        }
        for name, holds in rules.items():
            if not holds:
                raise UsageError(
                    "a training option is out of range",
                    where=name,
                    got=getattr(self, name),
                    expected=EXPECTED.get(name),
                )

    @property
    def scale(self) -> float:
        """The factor s of the update."""
        return self.alpha / (sqrt(self.rank) if self.rslora else self.rank)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "targets": list(self.targets)}


EXPECTED = {
    "epochs": "either steps or epochs, the other one 0",
    "schedule": ", ".join(SCHEDULES),
    "dropout": "at least 0 and below 1",
    "targets": 'patterns of layer names, such as "*" or "self_attn.*"',
    "layers": LAYERS_FORM,
    "activation": ", ".join(ACTIVATIONS),
    "patience": "0 or more; with it, validate_every above 0",
}
NAMES = tuple(field.name for field in fields(TrainOptions))
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # The authors' hyper-parameters (arXiv 2510.00229 and the scripts of efeslab/AgentFlux).
    "paper": {
        "steps": 0,
        "epochs": 4.0,
        "batch_size": 4,
        "accumulate": 4,
        "learning_rate": 5e-6,
        "warmup": 5,
        "rank": 32,
        "alpha": 64.0,
        "rslora": True,
        "dropout": 0.1,
        "layers": "all",
        "activation": "all",
        "window": 32768,
    },
}
