"""Learning rate schedules: those of mlx by name."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.optimizers as optim

Rate = Callable[[mx.array], mx.array]
FALL = 0.01
"""The last learning rate of an exponential schedule, as a share of the highest."""


def _constant(rate: float, steps: int) -> Rate:
    del steps
    return lambda step: mx.array(rate)


SCHEDULES: dict[str, Callable[[float, int], Rate]] = {
    "cosine": optim.cosine_decay,
    "linear": lambda rate, steps: optim.linear_schedule(rate, 0.0, steps),
    "exponential": lambda rate, steps: optim.exponential_decay(rate, FALL ** (1 / steps)),
    "constant": _constant,
}


def learning_rate(name: str, highest: float, warmup: int, steps: int) -> Rate:
    """The learning rate of each step: it rises linearly to ``highest`` in ``warmup`` steps, then follows a schedule."""
    warmup = min(warmup, steps - 1)
    decay = SCHEDULES[name](highest, steps - warmup)
    if not warmup:
        return decay
    rise = optim.linear_schedule(highest / (warmup + 1), highest, warmup)
    return optim.join_schedules([rise, decay], [warmup])
