"""One stage's training run, from a data folder into a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.data.steps import steps
from dualtune_mlx.decoding import learn_grounding
from dualtune_mlx.errors import BundleError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.prompts import Prompt
from dualtune_mlx.tools import Trajectory
from dualtune_mlx.training.examples import stage_examples
from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.trainer import Progress, Trained, train

STAGES = ("selector", "arguments")
SHARED = ""


def train_stage(
    stage: str,
    base: BaseModel,
    prompt: Prompt,
    train_set: Sequence[Trajectory],
    valid_set: Sequence[Trajectory],
    bundle: str | Path,
    options: TrainOptions,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Train one stage and put the adapter that does best on the validation set into the bundle.

    The bundle is made when it is not there. Nothing is written before the training has ended.

    Raises:
        BundleError: when the bundle belongs to another model, template or kind of tool card.
        DataError: when the data holds no example of the stage.
    """
    opened = open_or_new(bundle, base, prompt)
    examples = stage_examples(train_set, prompt, stage, options.activation)
    validation = stage_examples(valid_set, prompt, stage, options.activation)
    trained = train(base, examples, validation, options, report)
    facts: dict[str, Any] = {
        **options.to_dict(),
        "examples": len(examples),
        "best_step": trained.best_step,
        "validation_loss": trained.validation_loss,
    }
    tools = [tool for trajectory in train_set for tool in trajectory.tools]
    decisions = (step for trajectory in train_set for step in steps(trajectory))
    grounding = learn_grounding(decisions) if stage == "arguments" else {}
    opened.with_adapter(stage, SHARED, trained.adapter, facts, tools, grounding)
    return trained


def open_or_new(folder: str | Path, base: BaseModel, prompt: Prompt) -> Bundle:
    """The bundle in a folder, checked against the model and the prompt, or the start of a new one."""
    template = prompt.template
    wanted = Bundle(Path(folder), base.name, base.fingerprint, template.name, template.hash, prompt.cards)
    if not (Path(folder) / MANIFEST).exists():
        return wanted
    opened = Bundle.open(folder)
    for name in ("fingerprint", "template_hash", "cards"):
        got, expected = getattr(wanted, name), getattr(opened, name)
        if got != expected:
            raise BundleError(
                f"the bundle was made with another {name.replace('_', ' ')}",
                where=folder,
                got=got,
                expected=expected,
                fix="train into a new bundle folder, or with the bundle's own model, template and cards",
            )
    return opened
