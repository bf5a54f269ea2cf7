"""How often an adapter chooses right: by the exact most probable choice, as the engine makes it."""

from __future__ import annotations

from collections.abc import Sequence

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.data.steps import Step, steps
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import Prompt
from dualtune_mlx.stage import Stage, StageRunner
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.routing import routed


def selection_accuracy(
    base: BaseModel, prompt: Prompt, stage: str, adapter: Adapter, trajectories: Sequence[Trajectory]
) -> tuple[int, int]:
    """(right, asked) over all decisions of the trajectories that the model can read whole."""
    runner = StageRunner(base)
    held = base.hold(adapter)
    chooser = Stage("selector", held)
    decisions = [step for trajectory in trajectories for step in steps(trajectory)]
    try:
        answers = [_is_right(runner, chooser, prompt, step, stage == "router") for step in decisions]
    finally:
        base.release(held)
    asked = [answer for answer in answers if answer is not None]
    return sum(asked), len(asked)


def _is_right(runner: StageRunner, chooser: Stage, prompt: Prompt, step: Step, routes: bool) -> bool | None:
    shown, step = routed(step) if routes else (None, step)
    names = prompt.names(shown or step.tools)
    stream = prompt.stream(step.messages, step.tools, step.call, shown)
    limit = runner.base.context_length
    if limit is not None and len(stream) > limit:
        return None
    (best,) = runner.choose(chooser, stream, names, 1).value
    return names[best.name] == stream.within("selector")
