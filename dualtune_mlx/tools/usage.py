"""What a call cost: counters, which do not depend on the machine, and seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


@dataclass
class StageUsage:
    """The work of one stage."""

    adapter: str = "base"
    """The adapter that wrote, as its bundle names it."""
    prefilled_tokens: int = 0
    """Tokens computed before the activation point, under the base weights (under an adapter of activation ``all``)."""
    reused_tokens: int = 0
    """Tokens before the activation point that the prefix cache had."""
    active_tokens: int = 0
    """Tokens computed after the activation point, under the stage's adapter."""
    forwards: int = 0
    """Forward passes after the activation point."""
    decoded_tokens: int = 0
    """Tokens that the model chose; of a selector, the forks of names that it was asked about."""
    forced_tokens: int = 0
    """Tokens appended without the model, because the grammar allowed nothing else."""
    drafted_tokens: int = 0
    """Those of the active tokens that were a draft from the conversation, whether the draft was right or not."""
    switches: int = 0
    """Changes of the active adapter."""
    fusions: int = 0
    """Adapters whose weights were fused meanwhile."""
    seconds: float = 0.0
    """Wall-clock time of the stage."""

    def __add__(self, other: StageUsage) -> StageUsage:
        """The work of both; they are of the same adapter."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in COUNTERS})


COUNTERS = tuple(field.name for field in fields(StageUsage) if field.name != "adapter")


@dataclass
class Usage:
    """The work of a call. Every counter of ``StageUsage`` is there as the sum over the stages."""

    stages: dict[str, StageUsage] = field(default_factory=dict)
    """The counters of each stage, by its name."""

    @property
    def prefilled_tokens(self) -> int:
        return sum(stage.prefilled_tokens for stage in self.stages.values())

    @property
    def reused_tokens(self) -> int:
        return sum(stage.reused_tokens for stage in self.stages.values())

    @property
    def active_tokens(self) -> int:
        return sum(stage.active_tokens for stage in self.stages.values())

    @property
    def forwards(self) -> int:
        return sum(stage.forwards for stage in self.stages.values())

    @property
    def decoded_tokens(self) -> int:
        return sum(stage.decoded_tokens for stage in self.stages.values())

    @property
    def forced_tokens(self) -> int:
        return sum(stage.forced_tokens for stage in self.stages.values())

    @property
    def drafted_tokens(self) -> int:
        return sum(stage.drafted_tokens for stage in self.stages.values())

    @property
    def switches(self) -> int:
        return sum(stage.switches for stage in self.stages.values())

    @property
    def fusions(self) -> int:
        return sum(stage.fusions for stage in self.stages.values())

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages.values())

    def to_dict(self) -> dict[str, Any]:
        """The sums, and under ``stages`` the work of each stage."""
        sums = {name: getattr(self, name) for name in COUNTERS}
        return {**sums, "stages": {name: asdict(stage) for name, stage in self.stages.items()}}
