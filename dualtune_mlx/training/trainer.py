"""The training loop of one stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import mlx.core as mx
import mlx.optimizers as optim

from dualtune_mlx.adapters import Adapter, LowRank
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.kv import Snapshot
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.batches import epochs, in_order, make_batch, shared_prefix
from dualtune_mlx.training.examples import Example
from dualtune_mlx.training.loss import Weights, masked_loss
from dualtune_mlx.training.options import TrainOptions

BETAS = [0.9, 0.99]


@dataclass(frozen=True)
class Progress:
    """The state after a step: losses in nats a target token, tokens a second, peak memory in bytes."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    peak_memory: int
    validation_loss: float | None = None


@dataclass(frozen=True)
class Trained:
    """The adapter with the lowest validation loss, and how it came to be."""

    adapter: Adapter
    best_step: int
    validation_loss: float
    history: list[Progress] = field(default_factory=list)


def train(
    base: BaseModel,
    examples: Sequence[Example],
    validation: Sequence[Example],
    options: TrainOptions,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Train one adapter; deterministic for a seed.

    Raises:
        DualTuneError: when the loss stops being a finite number.
    """
    prefix = base_prefix(base, [*examples, *validation])
    start = base.bank.new_adapter(options.rank, options.scale, options.activation, options.seed, options.layers)
    weights: Weights = {name: {"a": update.a, "b": update.b} for name, update in start.layers.items()}
    # Without the correction, mlx's AdamW takes steps 3 to 6 times too long in a run of some hundred steps.
    optimizer = optim.AdamW(_schedule(options), betas=BETAS, weight_decay=options.weight_decay, bias_correction=True)
    step_loss = mx.value_and_grad(masked_loss)
    mx.reset_peak_memory()
    best: tuple[float, int, Weights] = (float("inf"), 0, weights)
    history: list[Progress] = []
    began, tokens = time.perf_counter(), 0
    for step, group in enumerate(islice(epochs(examples, options.batch_size, options.seed), options.steps), 1):
        batch = make_batch(group, len(prefix.tokens) if prefix else 0)
        loss, gradients = step_loss(weights, base, prefix, batch, options.scale)
        weights = optimizer.apply_gradients(gradients, weights)
        mx.eval(loss, weights, optimizer.state)
        value = float(loss.item())  # type: ignore[arg-type]
        _check_finite(value, step)
        tokens += batch.tokens
        measured = None
        if step == options.steps or (options.validate_every and step % options.validate_every == 0):
            measured = validation_loss(weights, base, prefix, validation, options)
            best = min(best, (measured, step, weights), key=lambda entry: entry[0])
        speed = tokens / (time.perf_counter() - began)
        history.append(Progress(step, options.steps, value, speed, mx.get_peak_memory(), measured))
        report(history[-1])
    lowest, best_step, best_weights = best
    layers = {name: LowRank(part["a"], part["b"], options.scale) for name, part in best_weights.items()}
    return Trained(Adapter.from_layers(start.config, layers), best_step, lowest, history)


def base_prefix(base: BaseModel, examples: Sequence[Example]) -> Snapshot | None:
    """The base model's keys and values of what all examples begin with; nothing when that is empty."""
    tokens = shared_prefix(examples)
    if not tokens:
        return None
    return base.snapshot(tokens)


def validation_loss(
    weights: Weights, base: BaseModel, prefix: Snapshot | None, examples: Sequence[Example], options: TrainOptions
) -> float:
    """Mean loss over the target tokens of all examples, in nats."""
    total = count = 0.0
    for group in in_order(examples, options.batch_size):
        batch = make_batch(group, len(prefix.tokens) if prefix else 0)
        loss = masked_loss(weights, base, prefix, batch, options.scale)
        total += float(loss.item()) * batch.targets.size  # type: ignore[arg-type]
        count += batch.targets.size
    return total / count


def _schedule(options: TrainOptions) -> Callable[[mx.array], mx.array]:
    warmup = min(options.warmup, options.steps - 1)
    decay = optim.cosine_decay(options.learning_rate, options.steps - warmup)
    if not warmup:
        return decay
    rise = optim.linear_schedule(options.learning_rate / (warmup + 1), options.learning_rate, warmup)
    return optim.join_schedules([rise, decay], [warmup])


def _check_finite(loss: float, step: int) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise DualTuneError(
            "the training loss is not a finite number",
            where=f"step {step}",
            got=loss,
            fix="lower the learning rate; nothing was written",
        )
