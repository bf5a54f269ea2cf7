"""One process of several that train together: ``mlx.launch -n 2 -- python -m tests.training.together FILE``.

The leading one saves the weights at the end.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import mlx.core as mx

import dualtune_mlx  # noqa: F401 (loads OpenBLAS before MLX)
from dualtune_mlx.training import Group, Trainer, TrainOptions
from tests import tiny
from tests.training.data import examples

OPTIONS = TrainOptions(steps=5, batch_size=2, accumulate=2, rank=4, layers="all", learning_rate=1e-4, validate_every=3)


def main(file: str) -> None:
    base = tiny.model()
    found = examples(base, 13)
    group = Group.join()
    # A global batch of 4: two batches of 2 on one machine, one on each of two.
    trainer = Trainer(base, found[:9], found[9:], OPTIONS, group=group)
    state = trainer.initial_state()
    if group.is_main:  # a leader that goes on takes the others with it
        first = {name: {**parts, "b": parts["b"] + 0.01} for name, parts in state.weights.items()}
        state = replace(state, step=2, best_step=1, best_loss=0.1 + 0.2, weights=first)
    state = trainer.broadcast(state)
    assert (state.step, state.best_loss) == (2, 0.1 + 0.2)
    trained = trainer.run(state)
    if group.is_main:
        arrays = {f"{n}/{k}": part for n, u in trained.adapter.layers.items() for k, part in u.parts.items()}
        arrays |= {"loss": mx.array([p.loss for p in trained.history]), "size": mx.array(group.size)}
        mx.save_safetensors(file, arrays)


if __name__ == "__main__":
    main(sys.argv[1])
