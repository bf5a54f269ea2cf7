"""Which optional arguments a call has: each in a good part of a tool's calls, and rarely many at once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from dualtune_mlx.tools.parameters import Parameter

SIZES = (0.28, 0.38, 0.2, 0.11, 0.03)
"""How often a call has none, one, two, three, four optional arguments."""
SELDOM = 0.08
"""The part of an ordinary one's turns that an optional argument gets which nobody says by heart."""


class OptionalPlan:
    """Chooses the optional arguments of a tool's calls, the ones that came least before the others."""

    def __init__(self, rng: random.Random, is_sayable: Callable[[Parameter], bool], without: float) -> None:
        """
        Args:
            rng: draws.
            is_sayable: whether a person would say a value of a parameter by heart.
            without: how often a call has no optional argument, beside ``SIZES[0]`` of ordinary tools.
        """
        self._rng, self._is_sayable, self._without = rng, is_sayable, without
        self._counts: Counter[str] = Counter()

    def choose(self, parameters: Sequence[Parameter]) -> list[str]:
        """The names of some of the parameters."""
        weights = (SIZES[0] * self._without, *SIZES[1:])
        wanted = min(self._rng.choices(range(len(SIZES)), weights)[0], len(parameters))
        turns = {one.path: 1.0 if self._is_sayable(one) else SELDOM for one in parameters}
        ordered = sorted(turns, key=lambda name: (self._counts[name] + self._rng.random()) / turns[name])
        seldom = [name for name in ordered if turns[name] < 1]
        chosen = [name for name in ordered if turns[name] == 1][:wanted]
        if seldom and self._rng.random() < SELDOM:
            chosen.append(seldom[0])
        self._counts.update(chosen)
        return chosen
