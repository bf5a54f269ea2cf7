"""How often an adapter makes the right choice. The choice is the exact most probable one, as in the engine."""

from __future__ import annotations

from collections.abc import Sequence

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.engine.stage import Stage, StageRunner
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.routing import ShownDecision, shown_decisions


def selection_accuracy(
    base: BaseModel,
    renderer: PromptRenderer,
    *,
    stage: str,
    adapter: Adapter,
    trajectories: Sequence[Trajectory],
    hierarchical: bool = False,
) -> tuple[int, int]:
    """Ask a router or selector for every choice in the trajectories.

    A selector of a hierarchy is asked at the node of the right tool. Decisions longer than the model's context are
    not asked.

    Returns:
        How many choices were right, and how many were asked.
    """
    runner = StageRunner(base)
    resident = base.acquire(adapter)
    chooser = Stage("selector", resident)
    asked_at = [
        view
        for number, trajectory in enumerate(trajectories)
        for decision in call_decisions(trajectory)
        for view in shown_decisions(decision, stage, hierarchical, number)
    ]
    try:
        answers = [_is_right(runner, chooser, renderer, view) for view in asked_at]
    finally:
        base.release(resident)
    asked = [answer for answer in answers if answer is not None]
    return sum(asked), len(asked)


def _is_right(runner: StageRunner, chooser: Stage, renderer: PromptRenderer, view: ShownDecision) -> bool | None:
    decision = view.decision
    names = renderer.name_tokens(view.shown)
    stream = renderer.render(
        decision.messages, decision.tools, decision.call, view.shown, decision.subtask, decision.today
    )
    limit = runner.base.context_length
    if limit is not None and len(stream) > limit:
        return None
    (best,) = runner.choose(chooser, stream, names, 1).value
    return names[best.name] == stream.span_tokens("selector")
