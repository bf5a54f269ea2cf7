"""What training will need: its memory, from steps with its longest examples, and its time, from some of its batches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from statistics import mean
from time import perf_counter
from typing import Any

from dualtune_mlx.errors import TrainingError
from dualtune_mlx.training.batches import iterate_steps, steps_per_epoch
from dualtune_mlx.training.examples import Example
from dualtune_mlx.training.prefixes import Tokens
from dualtune_mlx.training.trainer import Trainer

GIB = 2**30
USABLE = 0.75
"""The share of a machine's memory that training may take: what macOS lets a GPU use, with room for the rest."""
TIMED = 5
"""Batches that are timed, and as many of validation."""
FORWARD = 0.5
"""The time of a batch without gradients, as a share of that with them, at most."""


@dataclass(frozen=True)
class RunEstimate:
    """The memory that a run will need."""

    fixed: float
    """Bytes that every batch needs, however small; the cache of contexts counts in full."""
    per_example: float
    """Bytes that each example of a batch adds."""
    update: int
    """Bytes while the adapter is updated, when no activations are in memory."""
    batch_size: int
    """Examples computed at once."""

    def peak(self, batch_size: int) -> int:
        """Predicted peak memory in bytes."""
        return round(max(self.fixed + batch_size * self.per_example, self.update))

    def largest_batch(self, budget: float) -> int:
        """The largest batch whose peak is within ``budget`` bytes; 0 where not even one example fits."""
        if self.update > budget:
            return 0
        return max(0, int((budget - self.fixed) // max(self.per_example, 1.0)))


@dataclass(frozen=True)
class TimeEstimate:
    """The seconds that all steps of a run and its measurements of the validation loss will take."""

    likely: float
    """If every batch takes the mean of the measured ones."""
    least: float
    """If every batch takes as long as the fastest one."""
    greatest: float
    """If every batch takes as long as the slowest one."""


@dataclass(frozen=True)
class Pace:
    """The seconds that the parts of a run take."""

    step: float
    """A step."""
    validation: float
    """A measurement of the validation loss."""


@dataclass(frozen=True)
class StageEstimate:
    """What the run of one stage will need."""

    stage: str
    """The stage of a call, such as `selector`."""
    examples: int
    """How many training examples there are."""
    prefix_tokens: int
    """Tokens of the longest prefix that examples share."""
    steps: int
    """Optimiser steps of the run."""
    budget: float
    """Bytes that the run may take: the option ``memory_budget`` or, without it, most of this machine's memory."""
    run: RunEstimate
    """The memory of the run."""
    time: TimeEstimate
    """The time of the run."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Decisions that are not learned, by reason."""

    def to_dict(self) -> dict[str, Any]:
        """The estimate for JSON; memory in bytes, time in seconds."""
        run = self.run
        return {
            "stage": self.stage,
            "examples": self.examples,
            "left_out": dict(self.left_out),
            "prefix_tokens": self.prefix_tokens,
            "steps": self.steps,
            "batch_size": run.batch_size,
            "peak_memory": run.peak(run.batch_size),
            "memory_per_example": round(run.per_example),
            "budget": round(self.budget),
            "largest_batch": run.largest_batch(self.budget),
            "seconds": self.time.likely,
            "least_seconds": self.time.least,
            "greatest_seconds": self.time.greatest,
        }


def estimate_run(trainer: Trainer) -> RunEstimate:
    """Predict a run from a step with one and a step with two of the longest examples: memory is linear in the batch.

    The rows of a batch are as wide as its longest one, so the examples are those of an epoch's widest batch.
    """
    rows = _widest(trainer.examples, trainer.options.batch_size, trainer.options.seed)
    one, two = (trainer.measure_step((rows * count)[:count]) for count in (1, 2))
    slope = max(two.gradients - one.gradients, 0)
    return RunEstimate(
        fixed=one.gradients - slope + trainer.options.keep_contexts * GIB,
        per_example=slope,
        update=max(one.update, two.update),
        batch_size=trainer.options.batch_size,
    )


def estimate_time(trainer: Trainer) -> TimeEstimate:
    """Predict a run's time from some of its batches. The first one, which is slow, is not counted."""
    options = trainer.options
    batches = list(islice(iterate_steps(trainer.examples, options.batch_size, options.seed), TIMED + 1))
    training = [trainer.measure_step(rows).seconds for rows in batches][1:]
    per_step = ceil(min(trainer.examples_per_step, len(trainer.examples)) / options.batch_size)
    validation_batches = trainer.validation_batches()
    validation = _time_validation(trainer, validation_batches)
    measurements = _measurements(trainer.steps, options.validate_every)

    steps = [per_step * of(training) for of in (mean, min, max)]
    validations = [len(validation_batches) * of(validation) for of in (mean, min, max)]
    likely, least, greatest = (
        trainer.steps * step + measurements * measured for step, measured in zip(steps, validations, strict=True)
    )
    return TimeEstimate(likely, least, greatest)


def measure_pace(trainer: Trainer) -> Pace:
    """The pace of a run, from a batch of middling length. It is taken twice, and the first time is not counted."""
    options = trainer.options
    epoch = steps_per_epoch(iterate_steps(trainer.examples, options.batch_size, options.seed), len(trainer.examples))
    batches = islice(iterate_steps(trainer.examples, options.batch_size, options.seed), epoch)
    middling = sorted(batches, key=_computed)[epoch // 2]
    seconds = [trainer.measure_step(middling).seconds for _ in range(2)][1]
    batches_a_step = ceil(min(trainer.examples_per_step, len(trainer.examples)) / options.batch_size)
    validation = FORWARD * len(trainer.validation) / len(middling)
    return Pace(batches_a_step * seconds, validation * seconds)


def _time_validation(trainer: Trainer, batches: Sequence[tuple[Tokens, list[Example]]]) -> list[float]:
    """The seconds of some batches, from short ones to long ones, after one that is not counted."""
    weights, seconds = trainer.initial_state().weights, []
    chosen = batches[:: ceil(len(batches) / TIMED)]
    for batch in (chosen[0], *chosen):
        began = perf_counter()
        trainer.sum_losses(weights, [batch])
        seconds.append(perf_counter() - began)
    return seconds[1:]


def _measurements(steps: int, every: int) -> int:
    """How often the validation loss is measured: every so many steps, and at the end."""
    return ceil(steps / every) if every else 1


def check_budget(estimate: RunEstimate, budget_gib: float, where: object) -> None:
    """Refuse a run that would need more memory than its budget; 0 is no limit.

    Raises:
        TrainingError: with the largest batch that fits.
    """
    needed, fits = estimate.peak(estimate.batch_size), estimate.largest_batch(budget_gib * GIB)
    if not budget_gib or needed <= budget_gib * GIB:
        return
    raise TrainingError(
        "the run would need more memory than its budget",
        where=where,
        got=f"{needed / GIB:.2f} GiB with batches of {estimate.batch_size}",
        expected=f"at most {budget_gib:g} GiB",
        fix=f"use a batch size of {fits} and accumulate" if fits else "use grad_checkpoint, a smaller rank or model",
    )


def usable_memory() -> float:
    """Bytes of this machine's memory that training may take."""
    return USABLE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _widest(examples: Sequence[Example], size: int, seed: int) -> list[Example]:
    """The batch of an epoch with the most active tokens, its longest example first."""
    count = steps_per_epoch(iterate_steps(examples, size, seed), len(examples))
    batches = islice(iterate_steps(examples, size, seed), count)
    widest = max(batches, key=_computed)
    return sorted(widest, key=_active, reverse=True)


def _computed(rows: Sequence[Example]) -> int:
    """The tokens that a batch computes."""
    return len(rows) * max(map(_active, rows))


def _active(example: Example) -> int:
    return len(example.tokens) - example.active
