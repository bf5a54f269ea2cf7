"""A run in a process of its own, to be killed: ``python -m tests.training.resumable FOLDER KILL_AT WHERE``.

Prints the hash of the adapter at the end. WHERE is ``step`` (killed after KILL_AT steps), ``write`` (killed while
that step's checkpoint is written) or ``never``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx

import dualtune_mlx  # noqa: F401 (loads OpenBLAS before MLX)
from dualtune_mlx.training import Progress, Trainer, TrainOptions
from dualtune_mlx.training.checkpoints import Checkpoints
from tests import tiny
from tests.training.data import examples

OPTIONS = TrainOptions(
    steps=12, batch_size=3, rank=4, layers="all", dropout=0.1, validate_every=3, checkpoint_every=2, keep=2, patience=9
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, kill_at: int, where: str) -> None:
    base = tiny.model()
    found = examples(base, 20)
    trainer = Trainer(base, found[:15], found[15:], OPTIONS)
    checkpoints = Checkpoints(folder, "the run", OPTIONS.keep)
    seen: list[int] = []

    def report(progress: Progress) -> None:
        seen.append(progress.step)
        if where == "step" and progress.step == kill_at:
            die()

    def half_written(file: BinaryIO, arrays: dict[str, mx.array]) -> None:
        if seen[-1] >= kill_at:
            file.write(b"half")
            file.flush()
            die()
        write(file, arrays)

    write = mx.save_safetensors
    if where == "write":
        mx.save_safetensors = half_written
    trained = trainer.run(checkpoints.latest() or trainer.initial_state(), report, checkpoints)
    print(seen[0], trained.adapter.content_hash)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
