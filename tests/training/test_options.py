"""What a training run can be told, and what is refused."""

from __future__ import annotations

from dataclasses import fields

import pytest

from dualtune_mlx.errors import UsageError
from dualtune_mlx.training import PRESETS, TrainOptions

OUT_OF_RANGE = {
    "steps": -1,
    "epochs": 2.0,  # besides the steps
    "batch_size": 0,
    "accumulate": 0,
    "learning_rate": 0.0,
    "schedule": "stairs",
    "warmup": -1,
    "weight_decay": -0.1,
    "clip": -1.0,
    "rank": 0,
    "alpha": 0.0,
    "dropout": 1.0,
    "targets": (),
    "layers": "middle:3",
    "activation": "later",
    "validate_every": -1,
    "patience": -1,
    "checkpoint_every": -1,
    "keep": 0,
    "window": -1,
    "keep_contexts": -1.0,
    "memory_budget": -1.0,
    "seed": -1,
}
TOO_LARGE = {"steps": 2**31, "batch_size": 2**20 + 1, "accumulate": 2**17 + 1, "rank": 2**16 + 1, "seed": 2**63}
"""For MLX, which counts in 32 and 64 bits, or for any machine."""


@pytest.mark.parametrize(("name", "value"), [*OUT_OF_RANGE.items(), *TOO_LARGE.items()])
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match="out of range") as refused:
        TrainOptions(**{name: value})
    assert refused.value.where == name
    assert refused.value.expected


def test_every_option_that_has_a_range_is_tried_above():
    assert set(TrainOptions().to_dict()) - set(OUT_OF_RANGE) == {"rslora", "dora", "grad_checkpoint"}


def test_patience_needs_something_to_be_patient_about():
    with pytest.raises(UsageError, match="patience"):
        TrainOptions(patience=2, validate_every=0)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 8.0)])
def test_the_scale_is_alpha_by_rank_or_by_its_root(rslora, scale):
    assert TrainOptions(rank=16, alpha=32.0, rslora=rslora).scale == scale


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_in_range(name):
    TrainOptions(**PRESETS[name])


def test_every_option_says_what_it_does():
    assert all(field.metadata["help"].endswith(".") for field in fields(TrainOptions))
