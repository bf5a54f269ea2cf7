"""Everything about a teacher that a run which makes requests is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dualtune_mlx.synthesis.teacher.asking import Asking
from dualtune_mlx.synthesis.teacher.backends import Backend
from dualtune_mlx.synthesis.teacher.budget import Limits
from dualtune_mlx.synthesis.teacher.trial import Trial


@dataclass(frozen=True)
class Teaching:
    """A teacher, what it may cost, and how it is asked."""

    backend: Backend
    """The teacher (``open_backend``)."""
    limits: Limits = field(default_factory=Limits)
    """What it may cost."""
    asking: Asking = field(default_factory=Asking)
    """How it is asked."""
    confirm: Callable[[Trial], bool] = lambda trial: False
    """Asked whether to go on with a teacher that is right too seldom."""
