"""The training loop of one stage."""

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
    Batch,
    epochs,
    in_order,
    make_batch,
    steps_in_epoch,
    whole_contexts,
)
from dualtune_mlx.training.checkpoints import Checkpoints, TrainState
from dualtune_mlx.training.contexts import ContextCache
from dualtune_mlx.training.examples import Example
from dualtune_mlx.training.group import ALONE, Group
from dualtune_mlx.training.loss import Weights, low_rank, masked_loss
from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.prefixes import Prefixes, Tokens
from dualtune_mlx.training.schedules import learning_rate

BETAS = [0.9, 0.99]


@dataclass(frozen=True)
class Progress:
    """A step and its figures.

    Losses are in nats a target token, ``peak_memory`` in bytes, ``tokens_per_second`` counts what this process
    computed since it began, ``padding`` is the part of it that was computed for nothing, ``seconds`` what the step
    took, validation left out.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    peak_memory: int
    padding: float
    seconds: float
    validation_loss: float | None = None


Callback = Callable[[Progress], object]
"""Is told every step; returns True to end the run after it."""


@dataclass(frozen=True)
class Trained:
    """The adapter with the lowest validation loss, and how it came to be; ``ended`` says why the run ended."""

    adapter: Adapter
    best_step: int
    validation_loss: float
    ended: str
    history: list[Progress] = field(default_factory=list)


@dataclass(frozen=True)
class Probe:
    """Peak bytes while gradients are computed and while the adapter is updated, and the seconds of the gradients.

    The best weights so far, which a run keeps, are counted in both.
    """

    gradients: int
    update: int
    seconds: float


@dataclass
class _Work:
    """What a step's batches added up to."""

    loss: float = 0.0
    targets: int = 0
    tokens: int = 0
    padding: int = 0


class Trainer:
    """Trains one adapter; deterministic for a seed.

    ``kept`` may hold contexts from before, and keeps those that this run meets. ``start`` is the adapter that the
    run goes on from, instead of a new one.

    Raises:
        UsageError: when ``start`` is not what the options say: another rank, scale, activation or other layers.
    """

    def __init__(
        self,
        base: BaseModel,
        examples: Sequence[Example],
        validation: Sequence[Example],
        options: TrainOptions,
        team: Group = ALONE,
        kept: ContextCache | None = None,
        start: Adapter | None = None,
    ) -> None:
        self.kept = kept
        self.base, self.examples, self.validation, self.options, self.team = base, examples, validation, options, team
        self.prefixes = Prefixes([*examples, *validation], options.batch_size)
        self.snapshots = {tokens: base.snapshot(tokens) for tokens in self.prefixes.all}
        self._whole: Mapping[Tokens, Mapping[int, Tokens]] = {}
        if kept:
            split = self.prefixes.split(examples)
            self._whole = {tokens: whole_contexts(found, len(tokens)) for tokens, found in split}
        self.group = options.batch_size * options.accumulate
        self.steps = options.steps or ceil(options.epochs * steps_in_epoch(examples, self.group))
        self._new = base.bank.new_adapter(
            options.rank,
            options.scale,
            options.activation,
            options.seed,
            options.layers,
            options.targets,
            options.dora,
            options.dropout,
        )
        self._start = _fitting(self._new, start) if start else self._new
        rate = learning_rate(options.schedule, options.learning_rate, options.warmup, self.steps)
        # Without the correction, mlx's AdamW takes steps 3 to 6 times too long in a run of some hundred steps.
        self._optimizer = optim.AdamW(rate, betas=BETAS, weight_decay=options.weight_decay, bias_correction=True)
        self._loss = mx.value_and_grad(masked_loss)
        self._work, self._seconds = _Work(), 0.0

    def fresh(self) -> TrainState:
        """The state before the first step."""
        weights: Weights = {name: update.parts for name, update in sorted(self._start.layers.items())}
        self._optimizer.init(weights)
        return TrainState(0, weights, _copied(self._optimizer.state), 0, inf, weights)

    def run(
        self, state: TrainState, report: Callback = lambda progress: None, checkpoints: Checkpoints | None = None
    ) -> Trained:
        """Train from a state to the end.

        An interrupt (Ctrl-C) keeps the state of the last whole step in ``checkpoints`` and is raised again.

        Raises:
            TrainingError: when a loss or a gradient is not a finite number; the adapter is as it was before that step.
        """
        history: list[Progress] = []
        self._optimizer.state = _copied(state.optimizer)
        mx.reset_peak_memory()
        groups = islice(epochs(self.examples, self.group, self.options.seed), state.step, self.steps)
        stopped = saved = False
        try:
            while not (stopped or self._why_over(state)):
                state, progress = self._step(state, next(groups))
                history.append(progress)
                stopped = report(progress) is True
                saved = checkpoints is not None and self._is_due(state.step, self.options.checkpoint_every)
                if checkpoints and saved:
                    checkpoints.save(state)
        except KeyboardInterrupt:
            if checkpoints:
                checkpoints.save(state)
            raise
        if checkpoints and not saved:
            checkpoints.save(state)
        return self._finished(state, self._why_over(state) or "stopped by the caller", history)

    def shared(self, state: TrainState | None) -> TrainState:
        """The state that the leading process goes on from, in every process; a new one where it has none."""
        fresh = self.fresh()
        mine = state or fresh
        step, best_step, best_loss, stale = self.team.broadcast_json(
            [mine.step, mine.best_step, mine.best_loss, mine.stale]
        )
        trees = {"weights": mine.weights, "best": mine.best_weights, "optimizer": mine.optimizer}
        trees = self.team.broadcast(trees)
        return TrainState(step, trees["weights"], trees["optimizer"], best_step, best_loss, trees["best"], stale)

    def validation_loss(self, weights: Weights) -> float:
        """Mean loss over the target tokens of all validation examples, in nats."""
        work = _Work()
        size = self.options.batch_size
        split = self.prefixes.split(self.validation)
        for prefix, group in self.team.shard([(tokens, group) for tokens, f in split for group in in_order(f, size)]):
            batch = make_batch(group, len(prefix))
            snapshot = self.snapshots.get(prefix)
            loss = masked_loss(weights, self.base, snapshot, batch, self.options, None, self.kept)
            _add(work, batch, float(loss.item()))  # type: ignore[arg-type]
        total, targets = self.team.all_sum([mx.array(work.loss), mx.array(work.targets)])
        return float(total.item()) / float(targets.item())

    def probe(self, examples: Sequence[Example]) -> Probe:
        """What a step with one batch of these examples needs, from a new state, which is then forgotten."""
        state, work = self.fresh(), self._work
        self._work = _Work()
        mx.reset_peak_memory()
        began = time.perf_counter()
        gradients, _ = self._gradients(state.weights, examples, 1)
        seconds, peak = time.perf_counter() - began, mx.get_peak_memory()
        mx.reset_peak_memory()
        self._optimizer.state = _copied(state.optimizer)
        mx.eval(self._optimizer.apply_gradients(gradients, state.weights), self._optimizer.state)
        self._work = work
        kept = sum(array.nbytes for parts in state.weights.values() for array in parts.values())
        return Probe(peak + kept, mx.get_peak_memory() + kept, seconds)

    def _step(self, state: TrainState, group: Sequence[Example]) -> tuple[TrainState, Progress]:
        began = time.perf_counter()
        step = state.step + 1
        gradients, work = self._gradients(state.weights, self.team.shard(group), step)
        summed, targets, loss = self.team.all_sum([gradients, mx.array(work.targets), mx.array(work.loss)])
        gradients = tree_map(lambda gradient: gradient / targets, summed)
        clipped, norm = optim.clip_grad_norm(gradients, self.options.clip or inf)
        value, length = float((loss / targets).item()), float(norm.item())
        self._check_finite(value, length, step, group)
        weights = self._optimizer.apply_gradients(clipped if self.options.clip else gradients, state.weights)
        mx.eval(weights, self._optimizer.state)
        seconds = time.perf_counter() - began
        self._seconds += seconds
        state = replace(state, step=step, weights=weights, optimizer=_copied(self._optimizer.state))
        measured = None
        if step == self.steps or self._is_due(step, self.options.validate_every):
            measured = self.validation_loss(weights)
            state = _judged(state, measured)
        return state, Progress(
            step=step,
            steps=self.steps,
            loss=value,
            learning_rate=float(self._optimizer.learning_rate.item()),
            gradient_norm=length,
            tokens_per_second=self._work.tokens / self._seconds,
            peak_memory=mx.get_peak_memory(),
            padding=self._work.padding / max(self._work.tokens, 1),  # 0: a rank without a share so far
            seconds=seconds,
            validation_loss=measured,
        )

    def _gradients(self, weights: Weights, share: Sequence[Example], step: int) -> tuple[Any, _Work]:
        """The summed gradient of this process's share of a step's examples, a batch at a time."""
        work = _Work()
        total: Any = None
        keys = mx.random.split(mx.random.key(self.options.seed + step), self.group * self.team.size)
        for number, (prefix, group) in enumerate(self._batches(share)):
            batch = make_batch(group, len(prefix), self._whole.get(prefix))
            key = keys[self.team.rank * self.group + number]
            snapshot = self.snapshots.get(prefix)
            loss, gradients = self._loss(weights, self.base, snapshot, batch, self.options, key, self.kept)
            total = gradients if total is None else tree_map(mx.add, total, gradients)
            mx.eval(loss, total)
            _add(work, batch, float(loss.item()))  # type: ignore[arg-type]
            _add(self._work, batch, 0.0)
        return total or tree_map(mx.zeros_like, weights), work

    def _batches(self, share: Sequence[Example]) -> Iterator[tuple[Tokens, list[Example]]]:
        """Examples by their prefix, at most a batch at once."""
        size = self.options.batch_size
        for tokens, found in self.prefixes.split(share):
            for start in range(0, len(found), size):
                yield tokens, found[start : start + size]

    def _why_over(self, state: TrainState) -> str:
        """Why no step follows this state; empty where one does."""
        if self.options.patience and state.stale >= self.options.patience:
            return f"no better validation loss in {state.stale} measurements"
        return "all steps were taken" if state.step >= self.steps else ""

    def _is_due(self, step: int, every: int) -> bool:
        return bool(every) and step % every == 0

    def _check_finite(self, loss: float, norm: float, step: int, group: Sequence[Example]) -> None:
        if not (isfinite(loss) and isfinite(norm)):
            raise TrainingError(
                "the training loss or its gradient is not a finite number",
                where=f"step {step}: {', '.join(example.name or '?' for example in group)}",
                got=f"loss {loss}, gradient norm {norm}",
                expected="finite numbers",
                fix="look at these examples, lower the learning rate, or set a clip; the last checkpoint is untouched",
            )

    def _finished(self, state: TrainState, ended: str, history: list[Progress]) -> Trained:
        if state.best_step == 0:
            state = _judged(state, self.validation_loss(state.weights))
        adapter = Adapter.from_layers(self._new.config, low_rank(state.best_weights, self.options))
        return Trained(adapter, state.best_step, state.best_loss, ended, history)


def _fitting(new: Adapter, start: Adapter) -> Adapter:
    """The adapter ``start``, after it has been checked that a run which begins with ``new`` can begin with it.

    Raises:
        UsageError: when its configuration, or a layer's shape, is another one.
    """
    got, expected = _form(start), _form(new)
    if got != expected:
        at = next(name for name in (*expected, *got) if got.get(name) != expected.get(name))
        raise UsageError(
            "the adapter to go on from is not what the options describe",
            where=at,
            got=got.get(at),
            expected=expected.get(at),
            fix="train with the options that it was trained with, or from a new adapter",
        )
    return start


def _form(adapter: Adapter) -> dict[str, Any]:
    """What has to agree: the configuration but for the dropout, and every tensor's shape and type."""
    config = asdict(replace(adapter.config, dropout=0.0))
    arrays = {
        f"{name}.{part}": f"{tuple(array.shape)} {array.dtype}"
        for name, update in adapter.updates.items()
        for part, array in update.parts.items()
    }
    return {**config, **arrays}


def train(
    base: BaseModel,
    examples: Sequence[Example],
    validation: Sequence[Example],
    options: TrainOptions,
    report: Callback = lambda progress: None,
) -> Trained:
    """Train one adapter from the start to the end, on this machine, without files."""
    trainer = Trainer(base, examples, validation, options)
    return trainer.run(trainer.fresh(), report)


def _judged(state: TrainState, loss: float) -> TrainState:
    if loss < state.best_loss or state.best_step == 0:
        return replace(state, best_step=state.step, best_loss=loss, best_weights=state.weights, stale=0)
    return replace(state, stale=state.stale + 1)


def _add(work: _Work, batch: Batch, loss: float) -> None:
    work.loss += loss
    work.targets += batch.targets.size
    work.tokens += batch.tokens
    work.padding += batch.padding


def _copied(tree: Any) -> Any:
    """The same arrays in containers of their own: an optimiser writes into its own."""
    return tree_map(lambda array: array, tree)
