"""Bundles whose adapters make given calls, for benchmarks of whole calls. Not a benchmark itself.

How often a call is right is not their subject. But which tokens are written, and how sure the model is of them, decides
the time; so the adapters learn the very calls that are timed, by heart, in some ten steps. Rank 16, all projections of
all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import TrainingError
from dualtune_mlx.models import BaseModel, load_model
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Tool, ToolCall, Trajectory
from dualtune_mlx.training import TrainOptions
from dualtune_mlx.training.examples import stage_examples
from dualtune_mlx.training.trainer import Progress, train

TEMPLATE = "chatml"
ENOUGH = 0.01
"""Nats a target token at which a call is known by heart."""
STEPS = 150
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Asked:
    """A request, the call that it asks for, and the conversation before."""

    request: str
    call: ToolCall
    before: tuple[Message, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.before, Message("user", self.request))


def teach(
    model: str,
    cards: str,
    asked: Sequence[Asked],
    tools: Sequence[Tool],
    activation: str,
    folder: Path,
    stages: Sequence[str] = ("selector", "arguments"),
) -> None:
    """Write a bundle, or into one, adapters that make the calls among these tools.

    Raises:
        TrainingError: when they are not known by heart after ``STEPS`` steps.
    """
    base, template = load_model(model), Template(TEMPLATE)
    prompt = PromptRenderer(template, base.tokenizer, cards)
    bundle = Bundle(folder, model, base.fingerprint, TEMPLATE, template.hash, cards)
    lessons = [Trajectory((*one.messages, Message("assistant", "", (one.call,))), tuple(tools)) for one in asked]
    for stage in stages:
        adapter = _learned(base, prompt, stage, lessons, _options(activation, len(lessons)))
        bundle = bundle.with_adapter(stage, "", adapter, {}, tools)


def add_fresh(model: str, folder: Path, tools: Iterable[Tool]) -> None:
    """Give each of these tools an argument adapter of its own, which changes nothing yet, of the size of the others."""
    bank, bundle, options = load_model(model).bank, Bundle.open(folder), TrainOptions()
    for seed, tool in enumerate(tools, len(bundle.stages)):
        fresh = bank.new_adapter(options.rank, options.scale, options.activation, seed)
        bundle = bundle.with_adapter("arguments", f"{tool.server}/{tool.name}", fresh, {}, [tool])


def check(made: ToolCall, asked: Asked) -> None:
    """Refuse to time another call than the one that the other ways write.

    Raises:
        TrainingError: when a call is not the one that was taught.
    """
    if (made.name, made.arguments) != (asked.call.name, asked.call.arguments):
        raise TrainingError(
            "the adapters make another call than the one that they were taught",
            where=asked.request,
            got=f"{made.name} {made.arguments}",
            expected=f"{asked.call.name} {asked.call.arguments}",
            fix="let them learn it better: a lower ENOUGH in benchmarks/taught.py",
        )


def _options(activation: str, batch_size: int) -> TrainOptions:
    return TrainOptions(
        steps=STEPS,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup=5,
        layers="all",
        activation=activation,
        validate_every=0,
        checkpoint_every=0,
    )


def _learned(
    base: BaseModel, prompt: PromptRenderer, stage: str, lessons: Sequence[Trajectory], options: TrainOptions
) -> Adapter:
    examples = stage_examples(lessons, prompt, stage, options.activation).examples

    losses: list[float] = []

    def enough(progress: Progress) -> bool:
        losses.append(progress.loss)  # before the step: one alone may have led away again
        return max(losses[-2:]) < ENOUGH

    trained = train(base, examples, examples, options, enough)
    if trained.validation_loss > 2 * ENOUGH:
        raise TrainingError(
            f"the {stage} could not learn its calls by heart",
            got=f"{trained.validation_loss:.3f} nats a token after {len(trained.history)} steps",
            expected=f"{ENOUGH}",
            fix="raise STEPS in benchmarks/taught.py",
        )
    return trained.adapter
