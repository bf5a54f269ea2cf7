"""What a call cost: counters, which do not depend on the machine, and seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class StageUsage:
    """The work of one stage.

    ``prefilled_tokens``: computed before the activation point, under the base weights (under the adapter
    with activation ``all``); ``reused_tokens``: found there in the cache; ``active_tokens``: processed
    after it, under the stage's adapter; ``decoded_tokens``: chosen by the model; ``forced_tokens``:
    appended because the grammar allowed nothing else; ``switches``: changes of the active adapter.
    """

    adapter: str = "base"
    prefilled_tokens: int = 0
    reused_tokens: int = 0
    active_tokens: int = 0
    forwards: int = 0
    decoded_tokens: int = 0
    forced_tokens: int = 0
    switches: int = 0
    seconds: float = 0.0


@dataclass
class Usage:
    """The work of a call, stage by stage, and its sums."""

    stages: dict[str, StageUsage] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in StageUsage.__dataclass_fields__ and name != "adapter":
            return sum(getattr(stage, name) for stage in self.stages.values())
        raise AttributeError(name)

    def to_dict(self) -> dict[str, Any]:
        """The sums, and under ``stages`` the parts."""
        counters = [name for name in StageUsage.__dataclass_fields__ if name != "adapter"]
        sums = {name: getattr(self, name) for name in counters}
        return {**sums, "stages": {name: asdict(stage) for name, stage in self.stages.items()}}
