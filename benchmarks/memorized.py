"""Bundles whose adapters make given calls, for benchmarks of whole calls. Not a benchmark itself.

These benchmarks do not ask how often a call is right. But the time of a call depends on its tokens and on how sure the
model is of them. So the adapters memorize the very calls that are timed, in some ten steps. They have rank 16, on all
projections of all layers.
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
from dualtune_mlx.training import Progress, TrainOptions, train
from dualtune_mlx.training.examples import stage_examples

TEMPLATE = "chatml"
MEMORIZED_LOSS = 0.01
"""Loss in nats per target token at which a call is memorized."""
STEPS = 150
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class KnownCall:
    """A request, and the call that adapters memorize for it."""

    request: str
    call: ToolCall
    history: tuple[Message, ...] = ()
    """The conversation before the request."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation up to the request."""
        return (*self.history, Message("user", self.request))


def memorize(
    model: str,
    cards: str,
    *,
    calls: Sequence[KnownCall],
    tools: Sequence[Tool],
    activation: str,
    folder: Path,
    stages: Sequence[str] = ("selector", "arguments"),
) -> None:
    """Train an adapter for each stage until it makes these calls among these tools, and write them into a bundle.

    Args:
        model: the base model.
        cards: the kind of tool card.
        calls: what the adapters memorize.
        tools: the visible tools.
        activation: where the adapters begin to act.
        folder: the bundle's folder. A bundle that is there keeps its other adapters.
        stages: the stages that get an adapter.

    Raises:
        TrainingError: when the calls are not memorized after ``STEPS`` steps.
    """
    base, template = load_model(model), Template(TEMPLATE)
    renderer = PromptRenderer(template, base.tokenizer, cards)
    bundle = Bundle(folder, model, base.fingerprint, TEMPLATE, template.hash, cards)
    trajectories = [Trajectory((*one.messages, Message("assistant", "", (one.call,))), tuple(tools)) for one in calls]
    for stage in stages:
        adapter = _train_adapter(base, renderer, stage, trajectories, _options(activation, len(trajectories)))
        bundle = bundle.add_adapter(stage, "", adapter, training={}, tools=tools)


def add_untrained_adapters(model: str, folder: Path, tools: Iterable[Tool]) -> None:
    """Give each of these tools an argument adapter of its own, of the size of the others, which changes nothing."""
    bank, bundle, options = load_model(model).bank, Bundle.open(folder), TrainOptions()
    for seed, tool in enumerate(tools, len(bundle.stages)):
        adapter = bank.new_adapter(rank=options.rank, scale=options.scale, activation=options.activation, seed=seed)
        bundle = bundle.add_adapter("arguments", f"{tool.server}/{tool.name}", adapter, training={}, tools=[tool])


def check_call(made: ToolCall, known: KnownCall) -> None:
    """Check that a call is the memorized one: all methods have to be timed on the same call.

    Raises:
        TrainingError: when it is another call.
    """
    if (made.name, made.arguments) != (known.call.name, known.call.arguments):
        raise TrainingError(
            "the adapters make another call than the one that they memorized",
            where=known.request,
            got=f"{made.name} {made.arguments}",
            expected=f"{known.call.name} {known.call.arguments}",
            fix="train them longer: a lower MEMORIZED_LOSS in benchmarks/memorized.py",
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


def _train_adapter(
    base: BaseModel, renderer: PromptRenderer, stage: str, trajectories: Sequence[Trajectory], options: TrainOptions
) -> Adapter:
    examples = stage_examples(trajectories, renderer, stage, options.activation).examples

    losses: list[float] = []

    def is_memorized(progress: Progress) -> bool:
        losses.append(progress.loss)  # of before the step: after a single low one, the step may have made it worse
        return max(losses[-2:]) < MEMORIZED_LOSS

    trained = train(base, examples, examples, options, is_memorized)
    if trained.validation_loss > 2 * MEMORIZED_LOSS:
        raise TrainingError(
            f"the {stage} could not learn its calls by heart",
            got=f"{trained.validation_loss:.3f} nats a token after {len(trained.history)} steps",
            expected=f"{MEMORIZED_LOSS}",
            fix="raise STEPS in benchmarks/memorized.py",
        )
    return trained.adapter
