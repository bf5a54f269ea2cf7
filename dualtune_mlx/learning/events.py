"""What happens while tools are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.learning.plan import LearnPlan
from dualtune_mlx.synthesis.synthesize import SynthesisEvent
from dualtune_mlx.training import Job, SessionEvent


@dataclass(frozen=True)
class PlanMade:
    """What will be done is known; nothing has been done."""

    plan: LearnPlan


@dataclass(frozen=True)
class CommandStarted:
    """A step begins."""

    arguments: tuple[str, ...]
    """``dualtune`` with these arguments does the same; the flags of a teacher are left out."""


@dataclass(frozen=True)
class StepsChosen:
    """How long a step of training takes was measured, and so many fit into the time."""

    steps: Mapping[str, int]
    """Optimiser steps of each stage."""


@dataclass(frozen=True)
class TrainingRestarted:
    """A run cannot go on from its checkpoint, for example because the requests were mended; it begins anew."""

    job: Job
    why: str


@dataclass(frozen=True)
class DecisionEvaluated:
    """A measurement is one decision further."""

    done: int
    total: int


@dataclass(frozen=True)
class Measured:
    """A measurement has ended."""

    name: str
    """``before`` or ``after``."""
    value: Mapping[str, Any]
    """The report, as ``dualtune eval --json`` writes it."""


LearnEvent = (
    PlanMade
    | CommandStarted
    | StepsChosen
    | TrainingRestarted
    | DecisionEvaluated
    | Measured
    | SynthesisEvent
    | SessionEvent
)
LearnCallback = Callable[[LearnEvent], object]
"""Called with every event. Raising ``KeyboardInterrupt`` stops; the same call again goes on."""
