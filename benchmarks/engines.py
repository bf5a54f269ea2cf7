"""Two trainers on the same work: mlx-lm's own, and ours. Not a benchmark; ``training.py`` is.

Both take the same examples, in the same order and batches, and start from the same weights with the same optimiser.
Both first train a step on shortened examples, which is forgotten: MLX compiles its kernels then.
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
"""The last tokens of an example that warming up takes."""


@dataclass(frozen=True)
class Work:
    """What is learned: requests and the calls they ask for, for one model, and how tools are written for it."""

    model: str
    cards: str
    batch_size: int
    train: tuple[Trajectory, ...]
    held_out: tuple[Trajectory, ...] = ()

    def prompt(self, tokenizer: Any) -> PromptRenderer:
        return PromptRenderer(Template("chatml"), tokenizer, self.cards)

    def prefix_length(self, tokenizer: Any) -> int:
        """Tokens before the user's message."""
        tools = self.train[0].tools
        return self.prompt(tokenizer).render_conversation([Message("user", "?")], tools).last_span("prefix").end

    def examples(self, tokenizer: Any, activation: str) -> tuple[Example, ...]:
        return stage_examples(self.train, self.prompt(tokenizer), STAGE, activation).examples

    def batches(self, tokenizer: Any, activation: str, steps: int) -> list[list[Example]]:
        """The examples of the first ``steps`` steps, as our trainer takes them."""
        return list(islice(iterate_steps(self.examples(tokenizer, activation), self.batch_size, SEED), steps))

    def options(self, activation: str) -> TrainOptions:
        """A run without end, at a constant learning rate as mlx-lm's default is, and with nothing between its steps."""
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
class Measured:
    """One engine's run: seconds and loss of every step; the adapter lies in ``folder``.

    ``peak_memory`` is MLX's, in bytes, with weights and prefix; the model's loading is not in any of the times.
    """

    engine: str
    batch_size: int
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    peak_memory: int
    prefix_seconds: float
    folder: Path

    @property
    def speeds(self) -> list[float]:
        """Examples a second of every step."""
        return [self.batch_size / seconds for seconds in self.seconds]

    def speed_with_prefix(self, examples: int) -> float:
        """Examples a second over a run of so many examples, with the time that the prefix took."""
        return examples / (examples / self.batch_size * median(self.seconds) + self.prefix_seconds)


@dataclass(frozen=True)
class Judged:
    """Held-out requests: mean loss in nats a target token, and how many tools were chosen right."""

    loss: float
    right: int
    asked: int


def save_first_weights(work: Work, folder: Path) -> None:
    """The adapter that every run begins with, in mlx-lm's format: the one that our trainer makes itself."""
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


def train_ours(work: Work, activation: str, folder: Path, steps: int = ENDLESS, seconds: float = inf) -> Measured:
    """Train with our trainer for some steps, or for some seconds with the prefix counted in."""
    base = load_model(work.model)
    examples, options = work.examples(base.tokenizer, activation), work.options(activation)
    short = [shortened(example) for example in examples[: work.batch_size]]
    _one_step(Trainer(base, short, short, options))
    _forget()
    # A run ends by measuring a validation loss, which nobody needs here: one example, a short one where it may be.
    validation = short[:1] if activation == "all" else examples[:1]
    began = time.perf_counter()
    trainer = Trainer(base, examples, validation, options)
    state = trainer.initial_state()
    prefix_seconds, prefix_memory = time.perf_counter() - began, mx.get_peak_memory()
    clock = _Clock(steps, seconds - prefix_seconds)
    trainer.run(state, clock).adapter.save(folder)
    peak = max(prefix_memory, clock.peak_memory)
    times, losses = tuple(clock.seconds), tuple(clock.losses)
    return Measured(activation, work.batch_size, times, losses, peak, prefix_seconds, folder)


def _one_step(trainer: Trainer) -> None:
    trainer.run(trainer.initial_state(), lambda progress: True)


def train_peer(work: Work, start: Path, folder: Path, steps: int) -> Measured:
    """Train with mlx-lm's trainer, as its command line calls it, from the weights in ``start``."""
    model, tokenizer = mlx_lm.load(str(resolve(work.model)))[:2]
    model.freeze()
    load_adapters(model, str(start))
    mx.eval(model.parameters())
    groups, options = work.batches(tokenizer, "all", steps), work.options("all")
    folder.mkdir()
    shutil.copy(start / CONFIG, folder)
    _peer_run(model, [[shortened(example) for example in groups[0]]], options, folder)
    model.load_weights(str(start / WEIGHTS), strict=False)
    _forget()
    log = _peer_run(model, groups, options, folder)
    times, losses = tuple(log.seconds), tuple(log.losses)
    return Measured(PEER, work.batch_size, times, losses, mx.get_peak_memory(), 0.0, folder)


def _peer_run(model: nn.Module, groups: Sequence[Sequence[Example]], options: TrainOptions, folder: Path) -> _PeerLog:
    """One call of mlx-lm's trainer, a step for each group, with our optimiser; it writes the adapter's weights."""
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


def _forget() -> None:
    """Give back what is free, and measure the peak from here on."""
    mx.clear_cache()
    mx.reset_peak_memory()


def shortened(example: Example) -> Example:
    """The last tokens of an example."""
    cut = max(len(example.tokens) - WARM_UP, 0)
    targets = tuple(replace(target, start=target.start - cut, end=target.end - cut) for target in example.targets)
    return replace(example, tokens=example.tokens[cut:], active=max(example.active - cut, 0), targets=targets)


def peer_batches(
    dataset: Sequence[Sequence[Example]], batch_size: int, max_seq_length: int, **others: Any
) -> Iterator[tuple[mx.array, mx.array]]:
    """mlx-lm's own batches, one of each group of examples, so that every engine sees the same ones in each step."""
    del batch_size, others
    for group in dataset:
        rows = [(list(example.tokens), example.targets[0].start) for example in group]
        for tokens, ranges in iterate_batches(rows, len(rows), max_seq_length):
            # mlx-lm's loss counts the end of a range in, and so would also learn the padding behind the last token.
            yield tokens, ranges - mx.array([0, 1])


def judge(work: Work, folder: Path) -> Judged:
    """An adapter on the held-out requests, whoever trained it."""
    base = load_model(work.model)
    adapter, prompt = Adapter.load(folder), work.prompt(base.tokenizer)
    activation = adapter.config.activation
    examples = stage_examples(work.held_out, prompt, STAGE, activation).examples
    weights = {name: update.parts for name, update in adapter.layers.items()}
    loss = Trainer(base, examples, examples, work.options(activation)).validation_loss(weights)
    right, asked = selection_accuracy(base, prompt, STAGE, adapter, work.held_out)
    return Judged(loss, right, asked)


class _Clock:
    """Is told our trainer's steps; the time between two of them is a step's. Ends the run when it is enough."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.enough = steps, seconds
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
        return len(self.seconds) >= self.enough[0] or sum(self.seconds) >= self.enough[1]


class _PeerLog(TrainingCallback):
    """Keeps what mlx-lm's trainer reports of every step, by its own clock."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_train_loss_report(self, train_info: Mapping[str, float]) -> None:
        self.seconds.append(1 / train_info["iterations_per_second"])
        self.losses.append(train_info["train_loss"])
