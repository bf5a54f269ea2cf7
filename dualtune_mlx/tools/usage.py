"""What a call cost: counters, which do not depend on the machine, and seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


@dataclass
class StageUsage:
    """The work of one stage.

    ``prefilled_tokens``: computed before the activation point, under the base weights (under the adapter
    with activation ``all``); ``reused_tokens``: found there in the cache; ``active_tokens``: processed
    after it, under the stage's adapter; ``forwards``: forward passes after it; ``decoded_tokens``: chosen by
    the model (the selector: forks of names it was asked about); ``forced_tokens``: appended because the
    grammar allowed nothing else; ``drafted_tokens``: those of the active tokens that were found in the
    conversation and computed before they were chosen, whether they then were or not; ``switches``: changes
    of the active adapter; ``fusions``: adapters whose weights were fused meanwhile.
    """

    adapter: str = "base"
    prefilled_tokens: int = 0
    reused_tokens: int = 0
    active_tokens: int = 0
    forwards: int = 0
    decoded_tokens: int = 0
    forced_tokens: int = 0
    drafted_tokens: int = 0
    switches: int = 0
    fusions: int = 0
    seconds: float = 0.0

    def __add__(self, other: StageUsage) -> StageUsage:
        """Both together, of the same adapter."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in COUNTERS})


COUNTERS = tuple(field.name for field in fields(StageUsage) if field.name != "adapter")


@dataclass
class Usage:
    """The work of a call, stage by stage, and its sums."""

    stages: dict[str, StageUsage] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in COUNTERS:
            return sum(getattr(stage, name) for stage in self.stages.values())
        raise AttributeError(name)

    def to_dict(self) -> dict[str, Any]:
        """The sums, and under ``stages`` the parts."""
        sums = {name: getattr(self, name) for name in COUNTERS}
        return {**sums, "stages": {name: asdict(stage) for name, stage in self.stages.items()}}
