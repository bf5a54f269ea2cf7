"""What a run will need: measured on its own longest examples, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from dualtune_mlx.errors import TrainingError
from dualtune_mlx.training.batches import epochs, steps_in_epoch
from dualtune_mlx.training.examples import Example
from dualtune_mlx.training.trainer import Trainer

GIB = 2**30


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run needs: bytes that every batch needs (kept contexts in full), bytes an example, and seconds.

    ``update`` are the bytes while the adapter is updated, when no activations are held.
    """

    fixed: float
    per_example: float
    update: int
    batch_size: int
    steps: int
    seconds_per_example: float
    examples_a_step: int

    def peak(self, batch_size: int) -> int:
        """Predicted peak memory in bytes."""
        return round(max(self.fixed + batch_size * self.per_example, self.update))

    def largest_batch(self, budget: float) -> int:
        """The largest batch whose peak is within ``budget`` bytes; 0 where not even one example fits."""
        if self.update > budget:
            return 0
        return max(0, int((budget - self.fixed) // max(self.per_example, 1.0)))

    @property
    def seconds(self) -> float:
        """Predicted seconds for all steps, validation left out."""
        return self.steps * self.examples_a_step * self.seconds_per_example


def plan(trainer: Trainer) -> MemoryEstimate:
    """Measure a step with one and with two of the longest examples: what a batch needs grows linearly with its size.

    The rows of a batch are as wide as its longest one, so the batch that is looked at is the widest of an epoch.
    """
    rows = _widest(trainer.examples, trainer.options.batch_size, trainer.options.seed)
    one, two = (trainer.probe((rows * count)[:count]) for count in (1, 2))
    slope = max(two.gradients - one.gradients, 0)
    return MemoryEstimate(
        fixed=one.gradients - slope + trainer.options.keep_contexts * GIB,
        per_example=slope,
        update=max(one.update, two.update),
        batch_size=trainer.options.batch_size,
        steps=trainer.steps,
        seconds_per_example=two.seconds / 2,
        examples_a_step=min(trainer.group, len(trainer.examples)),
    )


def check_budget(planned: MemoryEstimate, budget_gib: float, where: object) -> None:
    """Refuse a run that would need more than its budget.

    Raises:
        TrainingError: with the largest batch that fits.
    """
    needed, fits = planned.peak(planned.batch_size), planned.largest_batch(budget_gib * GIB)
    if not budget_gib or needed <= budget_gib * GIB:
        return
    raise TrainingError(
        "the run would need more memory than its budget",
        where=where,
        got=f"{needed / GIB:.2f} GiB with batches of {planned.batch_size}",
        expected=f"at most {budget_gib:g} GiB",
        fix=f"use a batch size of {fits} and accumulate" if fits else "use grad_checkpoint, a smaller rank or model",
    )


def _widest(examples: Sequence[Example], size: int, seed: int) -> list[Example]:
    """The batch of an epoch that holds the most active tokens, its longest example first."""
    groups = islice(epochs(examples, size, seed), steps_in_epoch(examples, size))
    widest = max(groups, key=lambda group: len(group) * max(map(_active, group)))
    return sorted(widest, key=_active, reverse=True)


def _active(example: Example) -> int:
    return len(example.tokens) - example.active
