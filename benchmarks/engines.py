"""Two trainers on the same workload: mlx-lm's own, and ours. The benchmark is ``training.py``.

Both take the same examples, in the same order and batches, and start from the same weights with the same optimiser.
Both first train a step on shortened examples, for MLX to compile its kernels; its result is dropped.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import mlx_lm
from mlx_lm.tuner import TrainingArgs
from mlx_lm.tuner import train as mlx_lm_train
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import iterate_batches
from mlx_lm.tuner.utils import load_adapters

from dualtune_mlx.adapters import Adapter
from dualtune_mlx.adapters.adapter import CONFIG, WEIGHTS
from dualtune_mlx.models import load_model, resolve
from dualtune_mlx.models.loading import NO_CODE
from dualtune_mlx.prompts import PromptRenderer, Template
from dualtune_mlx.tools import Message, Trajectory
from dualtune_mlx.training import Progress, Trainer, TrainOptions
from dualtune_mlx.training.accuracy import selection_accuracy
from dualtune_mlx.training.batches import iterate_steps
from dualtune_mlx.training.examples import Example, stage_examples
from dualtune_mlx.training.trainer import BETAS

PEER = "mlx-lm"
OURS = ("all", "turn", "invocation")
STAGE = "selector"
SEED = 1
ENDLESS = 10**9
WARM_UP = 128
"""How many of an example's last tokens the first step on shortened examples takes."""


@dataclass(frozen=True)
class Workload:
    """What both trainers are given: requests, and the calls that they ask for."""

    model: str
    """The base model's name."""
    cards: str
    """How tools are written."""
    batch_size: int
    """Examples per step."""
    train: tuple[Trajectory, ...]
    """What is learned."""
    held_out: tuple[Trajectory, ...] = ()
    """What is measured with."""

    def renderer(self, tokenizer: Any) -> PromptRenderer:
        return PromptRenderer(Template("chatml"), tokenizer, self.cards)

    def prefix_length(self, tokenizer: Any) -> int:
        """The number of tokens before the user's message."""
        tools = self.train[0].tools
        return self.renderer(tokenizer).render_conversation([Message("user", "?")], tools).last_span("prefix").end

    def examples(self, tokenizer: Any, activation: str) -> tuple[Example, ...]:
        return stage_examples(self.train, self.renderer(tokenizer), STAGE, activation).examples

    def batches(self, tokenizer: Any, activation: str, steps: int) -> list[list[Example]]:
        """The examples of the first ``steps`` steps, as our trainer takes them."""
        return list(islice(iterate_steps(self.examples(tokenizer, activation), self.batch_size, SEED), steps))

    def options(self, activation: str) -> TrainOptions:
        """A run without end and with nothing between its steps, at a constant learning rate, mlx-lm's default."""
        return TrainOptions(
            steps=ENDLESS,
            batch_size=self.batch_size,
            activation=activation,
            schedule="constant",
            warmup=0,
            validate_every=0,
            checkpoint_every=0,
            seed=SEED,
        )


@dataclass(frozen=True)
class TimedRun:
    """One engine's run. The loading of the model is in none of the times."""

    engine: str
    """``PEER``, or the activation of our trainer."""
    batch_size: int
    """Examples per step."""
    seconds: tuple[float, ...]
    """The time of each step."""
    losses: tuple[float, ...]
    """The loss of each step."""
    peak_memory: int
    """The most bytes that MLX held, with weights and prefix."""
    prefix_seconds: float
    """The time of computing the prefix, once."""
    folder: Path
    """Where the adapter is."""

    @property
    def speeds(self) -> list[float]:
        """Examples per second, of each step."""
        return [self.batch_size / seconds for seconds in self.seconds]

    def speed_with_prefix(self, examples: int) -> float:
        """Examples per second over a run of so many examples, with the time of the prefix."""
        return examples / (examples / self.batch_size * median(self.seconds) + self.prefix_seconds)


@dataclass(frozen=True)
class HeldOutResult:
    """What an adapter does with the held-out requests."""

    loss: float
    """The mean loss in nats per target token."""
    right: int
    """How many tools were chosen right."""
    asked: int
    """How many requests there are."""


def save_first_weights(work: Workload, folder: Path) -> None:
    """Save the adapter that every run begins with, in mlx-lm's format. Our trainer makes the same one itself."""
    options = work.options("all")
    bank = load_model(work.model).bank
    adapter = bank.new_adapter(
        rank=options.rank,
        scale=options.scale,
        activation="all",
        seed=options.seed,
        layers=options.layers,
        targets=options.targets,
    )
    adapter.save(folder)


def train_ours(work: Workload, activation: str, folder: Path, steps: int = ENDLESS, seconds: float = inf) -> TimedRun:
    """Train with our trainer, for some steps or for some seconds. The time of the prefix counts."""
    base = load_model(work.model)
    examples, options = work.examples(base.tokenizer, activation), work.options(activation)
    short = [shorten(example) for example in examples[: work.batch_size]]
    _run_one_step(Trainer(base, short, short, options))
    _reset_memory()
    # A run ends with a validation loss, which is not needed here: it is given one example, a short one if possible.
    validation = short[:1] if activation == "all" else examples[:1]
    began = time.perf_counter()
    trainer = Trainer(base, examples, validation, options)
    state = trainer.initial_state()
    prefix_seconds, prefix_memory = time.perf_counter() - began, mx.get_peak_memory()
    clock = _StepClock(steps, seconds - prefix_seconds)
    trainer.run(state, clock).adapter.save(folder)
    peak = max(prefix_memory, clock.peak_memory)
    times, losses = tuple(clock.seconds), tuple(clock.losses)
    return TimedRun(activation, work.batch_size, times, losses, peak, prefix_seconds, folder)


def _run_one_step(trainer: Trainer) -> None:
    trainer.run(trainer.initial_state(), lambda progress: True)


def train_peer(work: Workload, start: Path, folder: Path, steps: int) -> TimedRun:
    """Train with mlx-lm's trainer as its command line does, from the weights in ``start``."""
    model, tokenizer = mlx_lm.load(str(resolve(work.model)), NO_CODE)[:2]
    model.freeze()
    load_adapters(model, str(start))
    mx.eval(model.parameters())
    groups, options = work.batches(tokenizer, "all", steps), work.options("all")
    folder.mkdir()
    shutil.copy(start / CONFIG, folder)
    _run_peer(model, [[shorten(example) for example in groups[0]]], options, folder)
    model.load_weights(str(start / WEIGHTS), strict=False)
    _reset_memory()
    log = _run_peer(model, groups, options, folder)
    times, losses = tuple(log.seconds), tuple(log.losses)
    return TimedRun(PEER, work.batch_size, times, losses, mx.get_peak_memory(), 0.0, folder)


def _run_peer(model: nn.Module, groups: Sequence[Sequence[Example]], options: TrainOptions, folder: Path) -> _PeerLog:
    """Call mlx-lm's trainer with our optimiser, one step for each group. It writes the adapter's weights."""
    decay, log = options.weight_decay, _PeerLog()
    optimizer = optim.AdamW(options.learning_rate, betas=BETAS, weight_decay=decay, bias_correction=True)
    arguments = TrainingArgs(
        batch_size=options.batch_size,
        iters=len(groups),
        steps_per_report=1,
        steps_per_save=ENDLESS,
        max_seq_length=ENDLESS,
        adapter_file=str(folder / WEIGHTS),
    )
    with redirect_stdout(io.StringIO()):
        mlx_lm_train(model, optimizer, groups, None, arguments, iterate_batches=peer_batches, training_callback=log)
    return log


def _reset_memory() -> None:
    """Release MLX's free memory, and measure the peak from here on."""
    mx.clear_cache()
    mx.reset_peak_memory()


def shorten(example: Example) -> Example:
    """An example cut to its last ``WARM_UP`` tokens."""
    cut = max(len(example.tokens) - WARM_UP, 0)
    targets = tuple(replace(target, start=target.start - cut, end=target.end - cut) for target in example.targets)
    return replace(example, tokens=example.tokens[cut:], active=max(example.active - cut, 0), targets=targets)


def peer_batches(
    dataset: Sequence[Sequence[Example]], batch_size: int, max_seq_length: int, **others: Any
) -> Iterator[tuple[mx.array, mx.array]]:
    """mlx-lm's own batches, one for each group of examples: so every engine sees the same examples in each step."""
    del batch_size, others
    for group in dataset:
        rows = [(list(example.tokens), example.targets[0].start) for example in group]
        for tokens, ranges in iterate_batches(rows, len(rows), max_seq_length):
            # mlx-lm's loss includes the end of a range, so it would also learn the padding behind the last token.
            yield tokens, ranges - mx.array([0, 1])


def measure_held_out(work: Workload, folder: Path) -> HeldOutResult:
    """Measure an adapter on the held-out requests, whichever engine trained it."""
    base = load_model(work.model)
    adapter, renderer = Adapter.load(folder), work.renderer(base.tokenizer)
    activation = adapter.config.activation
    examples = stage_examples(work.held_out, renderer, STAGE, activation).examples
    weights = {name: update.parts for name, update in adapter.layers.items()}
    loss = Trainer(base, examples, examples, work.options(activation)).validation_loss(weights)
    right, asked = selection_accuracy(base, renderer, stage=STAGE, adapter=adapter, trajectories=work.held_out)
    return HeldOutResult(loss, right, asked)


class _StepClock:
    """The callback of our trainer: times each step, and ends the run after enough steps or seconds."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.max_steps, self.max_seconds = steps, seconds
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.peak_memory = 0
        self._last = time.perf_counter()

    def __call__(self, progress: Progress) -> bool:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self.losses.append(progress.loss)
        self.peak_memory = progress.peak_memory
        self._last = now
        return len(self.seconds) >= self.max_steps or sum(self.seconds) >= self.max_seconds


class _PeerLog(TrainingCallback):
    """The callback of mlx-lm's trainer: keeps what it reports of each step, by its own clock."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_train_loss_report(self, train_info: Mapping[str, float]) -> None:
        self.seconds.append(1 / train_info["iterations_per_second"])
        self.losses.append(train_info["train_loss"])
