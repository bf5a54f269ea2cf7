"""The state of a training run, and its files. A file is whole or not there, and is checked when it is read.

checkpoints/step-000100/state.safetensors     weights, best weights, the optimiser's moments
checkpoints/step-000100/state.json            step, best loss, the run's key, the checksum of the weights
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from dualtune_mlx.errors import CheckpointError
from dualtune_mlx.files import atomic_folder, remove_folder, remove_leftovers, require_file, write_error
from dualtune_mlx.training.loss import Weights

FORMAT = 1
ARRAYS, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class TrainState:
    """All that the rest of a run depends on."""

    step: int
    """How many steps were taken."""
    weights: Weights
    """The trainable arrays after this step."""
    optimizer: Mapping[str, Any]
    """The optimiser's state: a tree of arrays."""
    best_step: int
    """The step with the lowest validation loss; 0 before the first measurement."""
    best_loss: float
    """The lowest validation loss, in nats a target token."""
    best_weights: Weights
    """The trainable arrays after ``best_step``."""
    stale: int = 0
    """Measurements of the validation loss since the lowest one."""


class Checkpoints:
    """The latest states of one run.

    Args:
        folder: where they are written.
        run: the run's key, a hash of its options, data and model.
        keep: how many states are kept.
    """

    def __init__(self, folder: Path, run: str, keep: int) -> None:
        self.folder = folder
        self.run = run
        self.keep = keep

    def save(self, state: TrainState) -> None:
        """Write a state, then remove the oldest ones beyond ``keep``.

        Raises:
            UsageError: when it cannot be written.
        """
        try:
            self.folder.mkdir(exist_ok=True)  # without parents: a run that was removed stays so
        except OSError as error:
            raise write_error(self.folder, error) from error
        trees = {"weights": state.weights, "best": state.best_weights, "optimizer": state.optimizer}
        with atomic_folder(self.folder / f"step-{state.step:06d}", replace=True) as temporary:
            with (temporary / ARRAYS).open("wb") as file:
                mx.save_safetensors(file, dict(_flatten(trees)))
            facts = {
                "format": FORMAT,
                "run": self.run,
                "step": state.step,
                "best_step": state.best_step,
                "best_loss": state.best_loss.hex(),
                "stale": state.stale,
                "sha256": _sha256(temporary / ARRAYS),
            }
            (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        self._remove_oldest()

    def latest(self) -> TrainState | None:
        """The last state that was written; None where there is none.

        Raises:
            CheckpointError: when it is damaged, or belongs to another run.
        """
        remove_leftovers(self.folder)
        self._remove_oldest()
        folders = self._folders()
        return self._read(folders[-1]) if folders else None

    def steps(self) -> list[int]:
        """The steps after which states were saved, the latest one last."""
        return [_step(folder) for folder in self._folders()]

    def clear(self) -> None:
        """Remove all states.

        Raises:
            UsageError: when they cannot be removed.
        """
        _remove(self.folder)

    def _remove_oldest(self) -> None:
        for old in self._folders()[: -self.keep]:
            _remove(old)

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-[0-9]*"), key=_step)

    def _read(self, folder: Path) -> TrainState:
        with _readable(folder):
            facts = json.loads(require_file(folder / FACTS).read_text(encoding="utf-8"))
            run, recorded = str(facts["run"]), str(facts["sha256"])
            actual = _sha256(folder / ARRAYS)
        if actual != recorded:
            raise CheckpointError(
                "a checkpoint is damaged", where=folder / ARRAYS, got=actual[:12], expected=recorded[:12], fix=_FIX
            )
        if run != self.run or facts.get("format") != FORMAT:
            raise CheckpointError(
                "the checkpoint belongs to another run",
                where=folder,
                got=f"format {facts.get('format')}, run {run[:12]}",
                expected=f"format {FORMAT}, run {self.run[:12]}: the same options, data and model",
                fix="resume with what the run was started with (its config.yaml), or start anew without --resume",
            )
        with _readable(folder):
            step, best_step, stale = (int(facts[name]) for name in ("step", "best_step", "stale"))
            best = float.fromhex(facts["best_loss"])
            arrays: dict[str, mx.array] = mx.load(str(folder / ARRAYS))  # type: ignore[assignment]
            mx.eval(arrays)
            trees = _unflatten(arrays)
            return TrainState(step, trees["weights"], trees["optimizer"], best_step, best, trees["best"], stale)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Say in words what a damaged file raises. RecursionError, and what MLX raises, are RuntimeErrors."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError("a checkpoint cannot be read", where=folder, got=error, fix=_FIX) from error


def _remove(folder: Path) -> None:
    try:
        remove_folder(folder)
    except FileNotFoundError:
        pass  # it never was, or somebody else has removed it
    except OSError as error:
        raise write_error(folder, error) from error


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


_FIX = "remove this folder and resume from the one before, or start anew without --resume"


def _flatten(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, mx.array]]:
    for name, value in tree.items():
        if isinstance(value, mx.array):
            yield before + name, value
        else:
            yield from _flatten(value, f"{before}{name}/")


def _unflatten(arrays: Mapping[str, mx.array]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in sorted(arrays.items()):  # the order that a new adapter's layers have
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = array
    return tree


def _sha256(path: Path) -> str:
    with require_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
