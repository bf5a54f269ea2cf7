"""What training will need, measured before it starts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.data import read_split
from dualtune_mlx.models import load_model
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.training.config import TrainConfig
from dualtune_mlx.training.jobs import Job, needs_router
from dualtune_mlx.training.memory import GIB, MemoryEstimate, estimate_memory, usable_memory
from dualtune_mlx.training.run import Run, RunSetup

MEASURED = ("selector", "arguments")
"""The stages that are measured: every bundle has them, and their runs are the largest."""


@dataclass(frozen=True)
class StageEstimate:
    """What the run of one stage will need."""

    stage: str
    """The stage."""
    examples: int
    """How many training examples there are."""
    prefix_tokens: int
    """Tokens of the longest prefix that examples share."""
    budget: float
    """Bytes that the run may take: the option ``memory_budget`` or, without it, most of this machine's memory."""
    memory: MemoryEstimate
    """What a batch of any size needs."""

    def to_dict(self) -> dict[str, Any]:
        """The estimate for JSON; memory in bytes, time in seconds."""
        memory = self.memory
        return {
            "stage": self.stage,
            "examples": self.examples,
            "prefix_tokens": self.prefix_tokens,
            "steps": memory.steps,
            "batch_size": memory.batch_size,
            "peak_memory": memory.peak(memory.batch_size),
            "memory_per_example": round(memory.per_example),
            "budget": round(self.budget),
            "largest_batch": memory.largest_batch(self.budget),
            "seconds": memory.seconds,
        }


def estimate_training(config: TrainConfig, report: Callable[[str], object] = lambda stage: None) -> list[StageEstimate]:
    """Measure what training the selector and the argument adapter for all calls will need.

    Nothing is trained or written, and the configuration's bundle is not looked at.

    Args:
        config: model, data, and each stage's options.
        report: called with each stage before it is measured.

    Raises:
        UsageError, DataError: when the data cannot be read, or has no example of a stage.
        ModelError: when the model cannot be loaded.
    """
    train_set, valid_set = read_split(config.data, "train"), read_split(config.data, "valid")
    base = load_model(config.model)
    renderer = PromptRenderer(Template(config.template), base.tokenizer, config.cards)
    hierarchical = needs_router(train_set, config.routing)
    with tempfile.TemporaryDirectory() as empty:
        setup = RunSetup(base, renderer, train_set, valid_set, empty, hierarchical=hierarchical)
        return [_estimate_stage(stage, config, setup, report) for stage in MEASURED]


def _estimate_stage(stage: str, config: TrainConfig, setup: RunSetup, report: Callable[[str], object]) -> StageEstimate:
    options = config.stages[stage]
    report(stage)
    run = Run(Job(stage), options, setup)
    trainer = run.trainer()
    return StageEstimate(
        stage=stage,
        examples=len(run.training.examples),
        prefix_tokens=max(map(len, trainer.prefixes.all), default=0),
        budget=options.memory_budget * GIB or usable_memory(),
        memory=estimate_memory(trainer),
    )
