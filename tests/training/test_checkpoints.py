"""Checkpoints: a killed run goes on as if nothing had happened, and a damaged or foreign state is refused."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from dualtune_mlx.errors import CheckpointError
from dualtune_mlx.training import Trainer
from dualtune_mlx.training.checkpoints import ARRAYS, FACTS, Checkpoints, TrainState
from dualtune_mlx.training.log import read_log
from tests import tiny
from tests.training.data import examples
from tests.training.resumable import OPTIONS

ROOT = Path(__file__).parents[2]


CHANGES = {
    "sha256": [None, 5, "x"],
    "run": [None, 5],
    "step": [None, "x", float("nan"), float("inf"), [1]],
    "best_loss": [None, "x", 5, "0x1p99999999"],
}


def start_process(folder: Path, kill_at: int = 0, where: str = "never") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.training.resumable", str(folder), str(kill_at), where]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    done = start_process(tmp_path_factory.mktemp("undisturbed"))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1]


@pytest.mark.processes
@pytest.mark.parametrize("where", ["step", "write"])
def test_a_run_killed_at_random_ends_with_the_same_bits(where, tmp_path, undisturbed):
    points = sorted(random.Random(where).sample(range(3, 12), 2))
    for point in points:
        assert start_process(tmp_path, point, where).returncode == -9
    done = start_process(tmp_path)
    assert done.returncode == 0, done.stderr
    first_step, content = done.stdout.split()
    assert int(first_step) > 1
    assert content == undisturbed


class Killed(BaseException):
    """Stands in for a kill at some step."""


def run_until(folder, step=None):
    """Train in a folder, from its last state on if it has one, up to the end or a kill at some step."""
    base = tiny.model()
    found = examples(base, 20)
    trainer = Trainer(base, found[:15], found[15:], replace(OPTIONS, dora=True, checkpoint_every=1))
    checkpoints = Checkpoints(folder, "the run", 1)

    def report(progress):
        if progress.step == step:
            raise Killed

    return trainer.run(checkpoints.latest() or trainer.initial_state(), report, checkpoints)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_until(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("point", range(1, 12, 3))
def test_every_state_holds_all_that_the_rest_depends_on(point, whole, tmp_path):
    with pytest.raises(Killed):
        run_until(tmp_path, point)
    resumed = run_until(tmp_path)
    assert resumed.adapter.content_hash == whole.adapter.content_hash
    assert (resumed.best_step, resumed.validation_loss) == (whole.best_step, whole.validation_loss)
    assert [p.loss for p in resumed.history] == [p.loss for p in whole.history][point - 1 :]


def test_an_interrupt_keeps_the_last_whole_step(tmp_path):
    base = tiny.model()
    found = examples(base)
    trainer = Trainer(base, found, found, replace(OPTIONS, checkpoint_every=0))
    checkpoints = Checkpoints(tmp_path, "the run", 1)

    def report(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(trainer.initial_state(), report, checkpoints)
    assert checkpoints.latest().step == 5


@pytest.fixture(scope="module")
def run_of_six(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run of six")
    base = tiny.model()
    found = examples(base)
    trainer = Trainer(base, found, found, replace(OPTIONS, steps=6, checkpoint_every=1, keep=2))
    trainer.run(trainer.initial_state(), checkpoints=Checkpoints(folder, "the run", keep=2))
    return folder


@pytest.fixture
def saved(run_of_six, tmp_path):
    """The states of a run of six steps, to be damaged."""
    shutil.copytree(run_of_six, tmp_path, dirs_exist_ok=True)
    return Checkpoints(tmp_path, "the run", keep=2)


def test_the_last_ones_are_kept(saved):
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-000005", "step-000006"]
    assert saved.latest().step == 6
    saved.clear()
    assert saved.latest() is None


def test_a_state_comes_back_bit_for_bit(saved):
    state = saved.latest()
    again = Checkpoints(saved.folder.parent / "again", "the run", 1)
    again.save(state)
    copy = again.latest()
    assert copy.best_loss == state.best_loss
    for name, parts in state.weights.items():
        for key, part in parts.items():
            assert mx.array_equal(part, copy.weights[name][key])
            assert mx.array_equal(state.optimizer[name][key]["v"], copy.optimizer[name][key]["v"])


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "no json"])
def test_a_damaged_state_is_refused_and_the_one_before_is_left(saved, damage):
    file = saved.folder / "step-000006" / ARRAYS
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "missing":
        file.unlink()
    else:
        (file.parent / FACTS).write_text("{")
    with pytest.raises(CheckpointError, match="step-000006(?s:.*)resume from the one before"):
        saved.latest()
    assert (saved.folder / "step-000005" / ARRAYS).exists()


def test_another_run_s_state_is_refused(saved):
    with pytest.raises(CheckpointError, match="another run(?s:.*)same options"):
        Checkpoints(saved.folder, "another", keep=2).latest()
    facts = saved.folder / "step-000006" / FACTS
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        saved.latest()


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in CHANGES.items() for value in values])
@pytest.mark.parametrize("gone", [False, True])
def test_facts_of_another_form_are_refused(tmp_path, key, value, gone):
    weights = {"a": mx.ones((2, 2))}
    Checkpoints(tmp_path / "run", "key", 1).save(TrainState(3, weights, {"step": mx.array(3)}, 2, 0.5, weights))
    file = tmp_path / "run" / "step-000003" / FACTS
    facts = {**json.loads(file.read_text()), key: value}
    if gone:
        del facts[key]
    file.write_text(json.dumps(facts))
    with pytest.raises(CheckpointError):
        Checkpoints(tmp_path / "run", "key", 1).latest()


@pytest.mark.parametrize("text", ["[" * 100_000, "x", '{"step": 1}', "5"])
def test_a_damaged_log_is_refused(tmp_path, text):
    (tmp_path / "log.jsonl").write_text(text + "\n")
    with pytest.raises(CheckpointError, match="the log of a run is damaged"):
        read_log(tmp_path / "log.jsonl")
