"""The options of a training run, and presets of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import sqrt
from typing import Any, TypeVar

from dualtune_mlx.adapters import LAYERS, LAYERS_FORM
from dualtune_mlx.errors import UsageError
from dualtune_mlx.prompts import ACTIVATIONS
from dualtune_mlx.training.schedules import SCHEDULES

T = TypeVar("T")
MOST_STEPS = 2**31 - 1
"""Steps that MLX's schedules can count."""
MOST_EXAMPLES = 2**20
MOST_RANK = 2**16
"""No layer is wider."""
MOST_SEED = 2**62
"""A step's number is added to the seed, and MLX takes 64 bits."""


def _option(default: T, text: str) -> T:
    """A field whose help is ``text``."""
    made: T = field(default=default, metadata={"help": text})
    return made


@dataclass(frozen=True)
class TrainOptions:
    """How one adapter is trained.

    Each field's ``help`` says what it does; the command line shows the same text.

    Raises:
        UsageError: when a value is out of range.
    """

    steps: int = _option(200, "Optimiser steps; 0 where epochs are given.")
    epochs: float = _option(0.0, "Times over all examples; 0 where steps are given.")
    batch_size: int = _option(8, "Examples computed at once.")
    accumulate: int = _option(1, "Batches of an optimiser step.")
    learning_rate: float = _option(5e-4, "Highest learning rate of AdamW.")
    schedule: str = _option("cosine", "How the learning rate falls.")
    warmup: int = _option(10, "Steps in which the learning rate rises linearly.")
    weight_decay: float = _option(0.01, "Weight decay of AdamW.")
    clip: float = _option(0.0, "Highest norm of the gradient; 0: no limit.")
    rank: int = _option(16, "Rank of the adapter.")
    alpha: float = _option(32.0, "Strength of the adapter: its update is scaled by alpha / rank.")
    rslora: bool = _option(False, "Scale by alpha / sqrt(rank) instead (arXiv 2312.03732).")
    dora: bool = _option(False, "Learn the magnitude of every output too (arXiv 2402.09353).")
    dropout: float = _option(0.0, "Share of an adapter's inputs that are dropped in training.")
    targets: tuple[str, ...] = _option(
        ("*",), "Linear layers that change, by patterns such as self_attn.*; several times, or with commas."
    )
    layers: str = _option("last:16", "Decoder layers that change: all, last:N or first:N.")
    activation: str = _option("turn", "Where the adapter begins to act.")
    validate_every: int = _option(50, "Steps between measurements of the validation loss; 0: only at the end.")
    patience: int = _option(0, "Measurements without a better one that end the run; 0: any number.")
    checkpoint_every: int = _option(100, "Steps between checkpoints; 0: only on Ctrl-C.")
    keep: int = _option(2, "Checkpoints that are kept.")
    window: int = _option(
        0, "Tokens of the longest conversation, others lose their oldest exchanges; 0: what the model was made for."
    )
    grad_checkpoint: bool = _option(False, "Compute activations again in the backward pass instead of keeping them.")
    keep_contexts: float = _option(0.0, "GiB of earlier messages' KV that are kept from epoch to epoch; 0: none.")
    memory_budget: float = _option(0.0, "GiB; a run that would need more is refused. 0: no limit.")
    seed: int = _option(0, "Seed of the order, of the first weights and of the dropout.")

    def __post_init__(self) -> None:
        rules = {
            "steps": 0 <= self.steps <= MOST_STEPS,
            "epochs": self.epochs >= 0 and (self.epochs > 0) != (self.steps > 0),
            "batch_size": 1 <= self.batch_size <= MOST_EXAMPLES,
            "accumulate": 1 <= self.accumulate <= MOST_EXAMPLES // max(self.batch_size, 1),
            "learning_rate": self.learning_rate > 0,
            "schedule": self.schedule in SCHEDULES,
            "warmup": self.warmup >= 0,
            "weight_decay": self.weight_decay >= 0,
            "clip": self.clip >= 0,
            "rank": 1 <= self.rank <= MOST_RANK,
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
            "seed": 0 <= self.seed <= MOST_SEED,
        }
        for name, is_right in rules.items():
            if not is_right:
                raise UsageError(
                    "a training option is out of range",
                    where=name,
                    got=getattr(self, name),
                    expected=_EXPECTED[name],
                )

    @property
    def scale(self) -> float:
        """The factor s of the update s·B·A: alpha / rank, or alpha / sqrt(rank) with ``rslora``."""
        return self.alpha / (sqrt(self.rank) if self.rslora else self.rank)

    def to_dict(self) -> dict[str, Any]:
        """The options for JSON or YAML, in the order of the fields."""
        return {**asdict(self), "targets": list(self.targets)}


_EXPECTED = {
    "keep": "1 or more",
    "rank": f"1 to {MOST_RANK:,}",
    "seed": f"0 to {MOST_SEED:,}",
    "steps": f"0 to {MOST_STEPS:,}",
    **dict.fromkeys(("batch_size", "accumulate"), f"1 or more, and at most {MOST_EXAMPLES:,} examples a step"),
    **dict.fromkeys(("learning_rate", "alpha"), "more than 0"),
    **dict.fromkeys(("warmup", "weight_decay", "clip", "validate_every", "checkpoint_every"), "0 or more"),
    **dict.fromkeys(("window", "keep_contexts", "memory_budget"), "0 or more"),
    "epochs": "either steps or epochs, the other one 0",
    "schedule": ", ".join(SCHEDULES),
    "dropout": "at least 0 and below 1",
    "targets": 'patterns of layer names, such as "*" or "self_attn.*"',
    "layers": LAYERS_FORM,
    "activation": ", ".join(ACTIVATIONS),
    "patience": "0 or more; with it, validate_every above 0",
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
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
"""Base values of the options, by name; a configuration and flags override them."""
