"""Two processes train what one trains, to float32 accuracy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from dualtune_mlx.training import Group

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, "-m", "tests.training.together"]


def run(command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.processes
def test_two_ranks_learn_what_one_learns_from_the_same_global_batch(tmp_path):
    launch = [str(Path(sys.executable).with_name("mlx.launch")), "-n", "2", "--backend", "ring", "--"]
    run([*SCRIPT, str(tmp_path / "one.safetensors")])
    run([*launch, *SCRIPT, str(tmp_path / "two.safetensors")])  # mlx.launch gives 0 even where a rank fails
    one, two = (mx.load(str(tmp_path / f"{name}.safetensors")) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert (one.pop("size").item(), two.pop("size").item()) == (1, 2)
    for name, array in one.items():
        assert mx.abs(array - two[name]).max().item() < 1e-6 * max(1.0, mx.abs(array).max().item()), name


def test_alone_nothing_is_exchanged():
    assert Group().broadcast_json({"a": None}) == {"a": None}
    assert Group().broadcast({"a": 1}) == {"a": 1}


def test_every_item_is_one_process_s():
    items = list(range(7))
    shares = [Group(rank, 3).shard(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [Group(rank, 3).is_main for rank in range(3)] == [True, False, False]
