"""Weights are known to the last bit, and hashed once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import mlx.core as mx
import pytest

from dualtune_mlx import DualTune
from dualtune_mlx.bundle.verify import find_problems
from dualtune_mlx.errors import BundleError, ModelError
from dualtune_mlx.models import hash_weights, load_model, resolve, whole_weights
from dualtune_mlx.training.jobs import Job
from dualtune_mlx.training.options import TrainOptions
from dualtune_mlx.training.run import RunSetup, TrainingRun
from tests import tiny
from tests.adapters.adapters import adapter_for
from tests.conversion.gguf.writer import tiny_gguf
from tests.training.data import TOOLS, trajectories


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(whole_weights, "LEAST", 0)
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The hashes that were computed."""
    found: list[str] = []
    compute = whole_weights.hash_weights
    monkeypatch.setattr(whole_weights, "hash_weights", lambda model: found.append(compute(model)) or found[-1])
    return found


def flip(folder: Path, place: int, later: bool = True) -> None:
    """Change the lowest bit of a value that the fingerprint does not sample."""
    path = folder / "model.safetensors"
    status = path.stat()
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    (_, entry) = max(json.loads(content[8:start]).items(), key=lambda one: one[1].get("data_offsets", [0, 0])[1])
    begin, end = entry["data_offsets"]
    values = (end - begin) // 4
    step = max(1, values // 64)
    content[start + begin + 4 * ((place * step + 1) % values)] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (1 if later else 0)))


def make_bundle(folder: Path, model: Path) -> None:
    base = load_model(str(model))
    setup = RunSetup(base, tiny.renderer(base), trajectories(), trajectories(), folder)
    TrainingRun(Job("selector"), TrainOptions(steps=1, batch_size=1, rank=2, checkpoint_every=0), setup).train()


@pytest.mark.parametrize("place", range(10))
def test_a_flipped_bit_is_another_model(tmp_path, place):
    model = tiny.save(tmp_path / "model")
    make_bundle(tmp_path / "b", model)
    with DualTune.load(tmp_path / "b"):
        pass
    assert find_problems(tmp_path / "b") == []
    fingerprint = load_model(str(model)).fingerprint
    flip(model, place)
    assert load_model(str(model)).fingerprint == fingerprint, "the samples do not see it"
    with pytest.raises(BundleError, match="other weights"):
        DualTune.load(tmp_path / "b")
    with pytest.raises(BundleError, match="other weights"):
        make_bundle(tmp_path / "b", model)
    (problem,) = find_problems(tmp_path / "b")
    assert problem.part == "model" and "other weights" in problem.message


def test_they_are_hashed_once_until_a_file_changes(tmp_path, cache, hashed):
    model = tiny.save(tmp_path / "model")
    first = load_model(str(model)).weights
    assert [load_model(str(model)).weights for _ in range(3)] == [first] * 3
    assert hashed == [first]
    flip(model, 0)
    second = load_model(str(model)).weights
    assert second != first and hashed == [first, second]
    (cache / "weights.json").write_text("[")
    assert load_model(str(model)).weights == second
    assert len(hashed) == 3


def test_verifying_reads_them_anew(tmp_path):
    """A change that keeps a file's size and time passes at a start, as the kept hash is believed; here it does not."""
    model = tiny.save(tmp_path / "model")
    make_bundle(tmp_path / "b", model)
    flip(model, 0, later=False)
    with DualTune.load(tmp_path / "b"):
        pass
    (problem,) = find_problems(tmp_path / "b")
    assert "other weights" in problem.message


def test_they_are_the_same_in_one_file_or_in_several_and_under_adapters(tmp_path, hashed):
    whole = tiny.save(tmp_path / "whole")
    parts = tiny.save(tmp_path / "parts")
    weights = sorted(mx.load(str(parts / "model.safetensors")).items())
    (parts / "model.safetensors").unlink()
    for number, part in enumerate((weights[::2], weights[1::2]), 1):
        mx.save_safetensors(str(parts / f"model-0000{number}-of-00002.safetensors"), dict(part), {"format": "mlx"})
    base = load_model(str(whole))
    assert load_model(str(parts)).weights == base.weights
    assert len(hashed) == 2
    base.acquire(adapter_for(base.bank, 1))
    assert hash_weights(base.model) == base.weights


def test_a_converted_model_that_was_changed_is_refused(tmp_path):
    source = tiny_gguf(tmp_path / "model.gguf")
    load_model(str(source))
    flip(Path(resolve(str(source))), 0)
    with pytest.raises(ModelError, match="not as it was written(?s:.*)remove this folder"):
        load_model(str(source))


def test_a_cache_folder_that_cannot_be_used_keeps_nothing(tmp_path, monkeypatch, hashed):
    model = tiny.save(tmp_path / "model")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUALTUNE_CACHE", str(tmp_path / "file"))
    assert load_model(str(model)).weights == load_model(str(model)).weights
    assert len(hashed) == 2


def test_a_bundle_that_knows_no_weights_is_as_before(tmp_path):
    model = tiny.save(tmp_path / "model")
    make_bundle(tmp_path / "b", model)
    manifest = json.loads((tmp_path / "b" / "dualtune.json").read_text())
    del manifest["base"]["weights"], manifest["checksum"]
    (tmp_path / "b" / "dualtune.json").write_text(json.dumps(manifest))
    flip(model, 0)
    with DualTune.load(tmp_path / "b") as dualtune:
        assert dualtune.bundle.tools == TOOLS
