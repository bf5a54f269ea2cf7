"""Training examples token by token: what training does with each, as ``dualtune inspect`` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dualtune_mlx.engine.stage import STAGES
from dualtune_mlx.prompts import PromptRenderer
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.examples import is_divided, stage_examples
from dualtune_mlx.training.jobs import needs_router
from dualtune_mlx.training.prefixes import Prefixes
from dualtune_mlx.training.report import token_kinds


@dataclass(frozen=True)
class InspectedExample:
    """An example of a stage, token by token."""

    stage: str
    """The stage that learns it."""
    ids: tuple[int, ...]
    """The token ids."""
    tokens: tuple[str, ...]
    """The text of each token."""
    kinds: tuple[str, ...]
    """What training does with each token: ``prefix``, ``context``, ``active`` or ``learned``."""
    active: int
    """The position of the first token under the adapter."""

    def to_dict(self) -> dict[str, Any]:
        """The example as JSON, with a mask of 0 and 1 for the learned and for the active tokens."""
        return {
            "stage": self.stage,
            "tokens": list(self.tokens),
            "ids": list(self.ids),
            "learned": [int(kind == "learned") for kind in self.kinds],
            "active": [int(position >= self.active) for position in range(len(self.ids))],
        }


def inspect_examples(
    trajectories: Sequence[Trajectory],
    renderer: PromptRenderer,
    *,
    stage: str | None = None,
    activation: str = "turn",
    routing: str = "auto",
    limit: int = 3,
) -> Iterator[InspectedExample]:
    """Yield the first examples of each stage, as training makes them.

    Args:
        trajectories: the data.
        renderer: makes the token streams.
        stage: the only stage to inspect; by default all that the data has examples for.
        activation: where the adapter begins to act.
        routing: whether servers and groups are chosen before tools: ``auto``, ``always`` or ``never``.
        limit: how many examples of a stage are inspected.

    Raises:
        DataError: when the data has no example for a stage.
        PromptError: when an example cannot be rendered.
    """
    hierarchical = needs_router(trajectories, routing)
    for name in [stage] if stage else find_stages(trajectories):
        examples = stage_examples(trajectories, renderer, name, activation, hierarchical=hierarchical).examples
        prefixes = Prefixes(examples, least=1)
        for example in examples[:limit]:
            yield InspectedExample(
                stage=name,
                ids=example.tokens,
                tokens=tuple(renderer.encoder.decode([token]) for token in example.tokens),
                kinds=tuple(token_kinds(example, len(prefixes.of(example)))),
                active=example.active,
            )


def find_stages(trajectories: Sequence[Trajectory]) -> tuple[str, ...]:
    """The stages that data has examples for.

    The planner is one where a request has parts. The router is one where each conversation has tools of several named
    servers.
    """
    servers = [{tool.server for tool in trajectory.tools} for trajectory in trajectories]
    learned = {
        "planner": any(map(is_divided, trajectories)),
        "router": all(len(names) > 1 and "" not in names for names in servers),
    }
    return tuple(stage for stage in STAGES if learned.get(stage, True))
