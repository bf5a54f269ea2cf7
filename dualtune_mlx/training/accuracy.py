"""How often an adapter chooses right: by the exact most probable choice, as the engine makes it."""

from __future__ import annotations

from collections.abc import Sequence

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.data.decisions import call_decisions
from dualtune_mlx.engine.stage import Stage, StageRunner
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import PromptRenderer
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.routing import View, views


def selection_accuracy(
    base: BaseModel,
    renderer: PromptRenderer,
    stage: str,
    adapter: Adapter,
    trajectories: Sequence[Trajectory],
    hierarchical: bool = False,
) -> tuple[int, int]:
    """(right, asked) over all choices of the trajectories that the model can read whole.

    Along a hierarchy, a selector is asked at the right node.
    """
    runner = StageRunner(base)
    held = base.acquire(adapter)
    chooser = Stage("selector", held)
    asked_at = [
        view
        for number, trajectory in enumerate(trajectories)
        for decision in call_decisions(trajectory)
        for view in views(decision, stage, hierarchical, number)
    ]
    try:
        answers = [_is_right(runner, chooser, renderer, view) for view in asked_at]
    finally:
        base.release(held)
    asked = [answer for answer in answers if answer is not None]
    return sum(asked), len(asked)


def _is_right(runner: StageRunner, chooser: Stage, renderer: PromptRenderer, view: View) -> bool | None:
    decision = view.decision
    names = renderer.name_tokens(view.shown)
    stream = renderer.render(decision.messages, decision.tools, decision.call, view.shown, decision.subtask)
    limit = runner.base.context_length
    if limit is not None and len(stream) > limit:
        return None
    (best,) = runner.choose(chooser, stream, names, 1).value
    return names[best.name] == stream.span_tokens("selector")
