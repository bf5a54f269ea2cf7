"""The training loop of one adapter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from math import ceil, inf, isfinite
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_map

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.errors import TrainingError, UsageError
from dualtune_mlx.models import BaseModel
from dualtune_mlx.training.batches import (
    Totals,
    batches_by_length,
    iterate_steps,
    iterate_steps_by_prefix,
    make_batch,
    steps_per_epoch,
    whole_contexts,
)
from dualtune_mlx.training.checkpoints import Checkpoints, TrainState
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.examples import Example
from dualtune_mlx.training.group import ALONE, Group
from dualtune_mlx.training.loss import Weights, lora_updates, masked_loss
from dualtune_mlx.training.options import MOST_STEPS, TrainOptions
from dualtune_mlx.training.prefixes import MOST, Prefixes, PrefixSnapshots, Tokens
from dualtune_mlx.training.schedules import learning_rate

BETAS = [0.9, 0.99]


@dataclass(frozen=True)
class Progress:
    """The figures of one step."""

    step: int
    """The step's number, from 1."""
    steps: int
    """How many steps the run has."""
    loss: float
    """Mean training loss, in nats a target token."""
    learning_rate: float
    """The learning rate of this step."""
    gradient_norm: float
    """The gradient's norm before clipping."""
    tokens_per_second: float
    """Tokens that this process has computed in all its steps, divided by the seconds of these steps."""
    peak_memory: int
    """The most memory that MLX has held so far, in bytes."""
    padding: float
    """Share of the computed tokens that are padding, between 0 and 1."""
    seconds: float
    """How long the step took, without validation."""
    validation_loss: float | None = None
    """Mean validation loss after the step, in nats a target token; None where it was not measured."""


Callback = Callable[[Progress], object]
"""Called after every step. Returning True ends the run; its best adapter is kept."""


@dataclass(frozen=True)
class TrainResult:
    """The adapter with the lowest validation loss, and how the run went."""

    adapter: Adapter
    """The adapter."""
    best_step: int
    """The step after which the adapter had these weights."""
    validation_loss: float
    """The adapter's validation loss, in nats a target token."""
    stop_reason: str
    """Why the run ended, in words."""
    history: list[Progress] = field(default_factory=list)
    """The steps that this process took; a resumed run does not repeat earlier ones."""


@dataclass(frozen=True)
class StepCost:
    """What one step needs. Both peaks count the best weights so far, which a run keeps."""

    gradients: int
    """Peak memory while gradients are computed, in bytes."""
    update: int
    """Peak memory while the adapter is updated, in bytes."""
    seconds: float
    """How long the gradients and the update took."""


class Trainer:
    """Trains one adapter. The same seed, data and options give the same adapter, to the bit.

    Args:
        base: the model; its weights do not change.
        examples: what is learned.
        validation: what the best weights are chosen by.
        options: how to train.
        group: the processes that share every step's examples.
        contexts: keeps the base model's keys and values of contexts from step to step; shared with other runs.
        start: an adapter to continue from, instead of a new one.

    Raises:
        UsageError: when the rank, scale, activation or layers of ``start`` differ from those of the options, or when
            the epochs make more steps than can be counted.
    """

    def __init__(
        self,
        base: BaseModel,
        examples: Sequence[Example],
        validation: Sequence[Example],
        options: TrainOptions,
        *,
        group: Group = ALONE,
        contexts: ContextCache | None = None,
        start: Adapter | None = None,
    ) -> None:
        self.base, self.examples, self.validation, self.options = base, examples, validation, options
        self.group, self.contexts = group, contexts
        self.prefixes = Prefixes([*examples, *validation], options.batch_size)
        self.snapshots = PrefixSnapshots(base)
        self._has_many_prefixes = len(self.prefixes.all) > MOST
        if not self._has_many_prefixes:
            for tokens in self.prefixes.all:  # now, for the time and the memory of steps are measured
                self.snapshots.get(tokens)
        self._whole: Mapping[Tokens, Mapping[int, Tokens]] = {}
        if contexts:
            split = self.prefixes.split(examples)
            self._whole = {tokens: whole_contexts(found, len(tokens)) for tokens, found in split}
        self.examples_per_step = options.batch_size * options.accumulate
        self.steps = options.steps or ceil(options.epochs * steps_per_epoch(self._iterate_steps(), len(examples)))
        if self.steps > MOST_STEPS:
            raise UsageError(
                "the run has too many steps",
                where="epochs",
                got=options.epochs,
                expected=f"at most {MOST_STEPS:,} steps",
            )
        new = base.bank.new_adapter(
            rank=options.rank,
            scale=options.scale,
            activation=options.activation,
            seed=options.seed,
            layers=options.layers,
            targets=options.targets,
            dora=options.dora,
            dropout=options.dropout,
        )
        if start:
            _check_start(start, new)
        self._config, self._first = new.config, start.astype(mx.float32) if start else new
        rate = learning_rate(options.schedule, options.learning_rate, options.warmup, self.steps)
        # Without the correction, mlx's AdamW takes steps 3 to 6 times too long in a run of some hundred steps.
        self._optimizer = optim.AdamW(rate, betas=BETAS, weight_decay=options.weight_decay, bias_correction=True)
        self._loss = mx.value_and_grad(masked_loss)
        self._totals, self._seconds = Totals(), 0.0

    def initial_state(self) -> TrainState:
        """The state before the first step."""
        weights: Weights = {name: update.parts for name, update in sorted(self._first.layers.items())}
        self._optimizer.init(weights)
        return TrainState(0, weights, _copy_tree(self._optimizer.state), 0, inf, weights)

    def run(
        self, state: TrainState, report: Callback = lambda progress: None, checkpoints: Checkpoints | None = None
    ) -> TrainResult:
        """Train from a state to the end.

        A ``KeyboardInterrupt``, by Ctrl-C or raised by ``report``, saves the state after the last whole step in
        ``checkpoints`` and is raised again.

        Raises:
            TrainingError: when a loss or a gradient is not a finite number; the adapter is as it was before that step.
        """
        history: list[Progress] = []
        self._optimizer.state = _copy_tree(state.optimizer)
        mx.reset_peak_memory()
        remaining = islice(self._iterate_steps(), state.step, self.steps)
        stopped = saved = False
        try:
            while not (stopped or self._stop_reason(state)):
                state, progress = self._step(state, next(remaining))
                history.append(progress)
                stopped = report(progress) is True
                saved = checkpoints is not None and _is_due(state.step, self.options.checkpoint_every)
                if checkpoints and saved:
                    checkpoints.save(state)
        except KeyboardInterrupt:
            if checkpoints:
                checkpoints.save(state)
            raise
        if checkpoints and not saved:
            checkpoints.save(state)
        return self._result(state, self._stop_reason(state) or "stopped by the caller", history)

    def broadcast(self, state: TrainState | None) -> TrainState:
        """Give the main process's state to every process; the initial state where it has none."""
        initial = self.initial_state()
        own = state or initial
        step, best_step, best_loss, stale = self.group.broadcast_json(
            [own.step, own.best_step, own.best_loss, own.stale]
        )
        trees = {"weights": own.weights, "best": own.best_weights, "optimizer": own.optimizer}
        trees = self.group.broadcast(trees)
        return TrainState(step, trees["weights"], trees["optimizer"], best_step, best_loss, trees["best"], stale)

    def validation_loss(self, weights: Weights) -> float:
        """The mean loss of these weights over the target tokens of all validation examples, in nats."""
        totals = self.sum_losses(weights, self.group.shard(self.validation_batches()))
        loss, targets = self.group.all_sum([mx.array(totals.loss), mx.array(totals.targets)])
        return float(loss.item()) / float(targets.item())

    def validation_batches(self) -> list[tuple[Tokens, list[Example]]]:
        """The validation examples in batches, each with its prefix."""
        return [
            (prefix, rows)
            for prefix, found in self.prefixes.split(self.validation)
            for rows in batches_by_length(found, self.options.batch_size)
        ]

    def sum_losses(self, weights: Weights, batches: Sequence[tuple[Tokens, list[Example]]]) -> Totals:
        """Sum the loss of these weights over batches, without gradients or dropout."""
        totals = Totals()
        for prefix, rows in batches:
            batch = make_batch(rows, len(prefix))
            snapshot = self.snapshots.get(prefix)
            loss = masked_loss(
                weights, self.base, prefix=snapshot, batch=batch, options=self.options, key=None, contexts=self.contexts
            )
            totals.add(batch, float(loss.item()))  # type: ignore[arg-type]
        return totals

    def measure_step(self, examples: Sequence[Example]) -> StepCost:
        """Measure a step with one batch of these examples. The run's own state and figures stay as they are."""
        state, totals = self.initial_state(), self._totals
        self._totals = Totals()
        mx.reset_peak_memory()
        began = time.perf_counter()
        gradients, _ = self.gradients(state.weights, examples, 1)
        peak = mx.get_peak_memory()
        mx.reset_peak_memory()
        self._optimizer.state = _copy_tree(state.optimizer)
        mx.eval(self._optimizer.apply_gradients(gradients, state.weights), self._optimizer.state)
        seconds = time.perf_counter() - began
        self._totals = totals
        best = sum(array.nbytes for parts in state.weights.values() for array in parts.values())
        return StepCost(peak + best, mx.get_peak_memory() + best, seconds)

    def gradients(self, weights: Weights, examples: Sequence[Example], step: int) -> tuple[Any, Totals]:
        """The gradient of the examples' summed loss, computed batch by batch, and the sums over these batches.

        ``examples`` are this process's share of those of the step; ``step`` seeds the dropout. The gradient is a tree
        of arrays like ``weights``.
        """
        totals = Totals()
        summed: Any = None
        keys = mx.random.split(mx.random.key(self.options.seed + step), self.examples_per_step * self.group.size)
        for number, (prefix, rows) in enumerate(self._batches(examples)):
            batch = make_batch(rows, len(prefix), self._whole.get(prefix))
            key = keys[self.group.rank * self.examples_per_step + number]
            snapshot = self.snapshots.get(prefix)
            loss, gradients = self._loss(
                weights, self.base, prefix=snapshot, batch=batch, options=self.options, key=key, contexts=self.contexts
            )
            summed = gradients if summed is None else tree_map(mx.add, summed, gradients)
            mx.eval(loss, summed)
            totals.add(batch, float(loss.item()))  # type: ignore[arg-type]
            self._totals.add(batch)
        return summed or tree_map(mx.zeros_like, weights), totals

    def _step(self, state: TrainState, examples: Sequence[Example]) -> tuple[TrainState, Progress]:
        began = time.perf_counter()
        step = state.step + 1
        gradients, totals = self.gradients(state.weights, self.group.shard(examples), step)
        summed, targets, loss = self.group.all_sum([gradients, mx.array(totals.targets), mx.array(totals.loss)])
        gradients = tree_map(lambda gradient: gradient / targets, summed)
        clipped, norm = optim.clip_grad_norm(gradients, self.options.clip or inf)
        mean_loss, gradient_norm = float((loss / targets).item()), float(norm.item())
        _check_finite(mean_loss, gradient_norm, step, examples)
        weights = self._optimizer.apply_gradients(clipped if self.options.clip else gradients, state.weights)
        mx.eval(weights, self._optimizer.state)
        seconds = time.perf_counter() - began
        self._seconds += seconds
        state = replace(state, step=step, weights=weights, optimizer=_copy_tree(self._optimizer.state))
        validation_loss = None
        if step == self.steps or _is_due(step, self.options.validate_every):
            validation_loss = self.validation_loss(weights)
            state = _record_validation(state, validation_loss)
        return state, Progress(
            step=step,
            steps=self.steps,
            loss=mean_loss,
            learning_rate=float(self._optimizer.learning_rate.item()),
            gradient_norm=gradient_norm,
            tokens_per_second=self._totals.tokens / self._seconds,
            peak_memory=mx.get_peak_memory(),
            padding=self._totals.padding / max(self._totals.tokens, 1),  # 0: a rank without a share so far
            seconds=seconds,
            validation_loss=validation_loss,
        )

    def _iterate_steps(self) -> Iterator[list[Example]]:
        """The examples of each step, without end."""
        options = self.options
        if not self._has_many_prefixes:
            return iterate_steps(self.examples, self.examples_per_step, options.seed)
        found = [rows for _, rows in self.prefixes.split(self.examples)]
        return iterate_steps_by_prefix(found, MOST, options.batch_size, options.accumulate, options.seed)

    def _batches(self, examples: Sequence[Example]) -> Iterator[tuple[Tokens, list[Example]]]:
        """The examples by their prefix, at most a batch at once."""
        size = self.options.batch_size
        for prefix, found in self.prefixes.split(examples):
            for first in range(0, len(found), size):
                yield prefix, found[first : first + size]

    def _stop_reason(self, state: TrainState) -> str:
        """Why no step follows this state; empty where one does."""
        if self.options.patience and state.stale >= self.options.patience:
            return f"no better validation loss in {state.stale} measurements"
        return "all steps were taken" if state.step >= self.steps else ""

    def _result(self, state: TrainState, stop_reason: str, history: list[Progress]) -> TrainResult:
        if state.best_step == 0:
            state = _record_validation(state, self.validation_loss(state.weights))
        adapter = Adapter.from_layers(self._config, lora_updates(state.best_weights, self.options))
        return TrainResult(adapter, state.best_step, state.best_loss, stop_reason, history)


def train(
    base: BaseModel,
    examples: Sequence[Example],
    validation: Sequence[Example],
    options: TrainOptions,
    report: Callback = lambda progress: None,
) -> TrainResult:
    """Train one adapter from start to end, in this process, without files."""
    trainer = Trainer(base, examples, validation, options)
    return trainer.run(trainer.initial_state(), report)


def _check_start(start: Adapter, new: Adapter) -> None:
    """Check that a run can continue from ``start``; ``new`` is the adapter that it would begin with otherwise.

    Raises:
        UsageError: when its configuration, or a layer's shape, differs.
    """
    got, expected = _layout(start), _layout(new)
    if got != expected:
        at = next(name for name in (*expected, *got) if got.get(name) != expected.get(name))
        raise UsageError(
            "the adapter to go on from is not what the options describe",
            where=at,
            got=got.get(at),
            expected=expected.get(at),
            fix="train with the options that it was trained with, or from a new adapter",
        )


def _layout(adapter: Adapter) -> dict[str, Any]:
    """What two adapters must have in common: the configuration without the dropout, and every tensor's shape."""
    config = asdict(replace(adapter.config, dropout=0.0))
    arrays = {
        f"{name}.{part}": str(tuple(array.shape))
        for name, update in adapter.updates.items()
        for part, array in update.parts.items()
    }
    return {**config, **arrays}


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _check_finite(loss: float, norm: float, step: int, examples: Sequence[Example]) -> None:
    if not (isfinite(loss) and isfinite(norm)):
        raise TrainingError(
            "the training loss or its gradient is not a finite number",
            where=f"step {step}: {', '.join(example.name or '?' for example in examples)}",
            got=f"loss {loss}, gradient norm {norm}",
            expected="finite numbers",
            fix="look at these examples, lower the learning rate, or set a clip; the last checkpoint is untouched",
        )


def _record_validation(state: TrainState, loss: float) -> TrainState:
    """The state with a validation loss noted: its weights are the best so far, or it is one measurement staler."""
    if loss < state.best_loss or state.best_step == 0:
        return replace(state, best_step=state.step, best_loss=loss, best_weights=state.weights, stale=0)
    return replace(state, stale=state.stale + 1)


def _copy_tree(tree: Any) -> Any:
    """The same arrays in new containers: an optimiser writes into its own."""
    return tree_map(lambda array: array, tree)
