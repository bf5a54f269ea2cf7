"""The word classifier in a bundle: it comes back as it was written, and is refused when it is another one."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.bundle.verify import find_problems
from dualtune_mlx.bundle.words import FILE, load_words
from dualtune_mlx.decoding import Evidence, WordClassifier
from dualtune_mlx.decoding.word_classifier import BUCKETS
from dualtune_mlx.errors import BundleError
from tests.bundle.test_manifest import base, bundle, change, empty  # noqa: F401

EVIDENCE = Evidence(weight=4.0, sharpness=0.5)


def make(width: int = 8) -> WordClassifier:
    weights = np.random.default_rng(0).normal(size=(BUCKETS + width, 3)).astype(np.float16).astype(np.float32)
    outputs = (("files/read",), ("respond",), ("files/read", "path"))
    return WordClassifier(
        outputs,
        weights,
        np.ones(3, np.float32),
        np.zeros(width, np.float32),
        np.ones(width, np.float32),
        {"files/read": {"path": "file"}},
    )


def test_it_comes_back_as_it_was_written(bundle):  # noqa: F811
    written = make()
    bundle.set_words(written, EVIDENCE)
    again = Bundle.open(bundle.folder)
    read = again.load_words()
    assert (again.words.evidence, read.outputs) == (EVIDENCE, written.outputs)
    asked = ("note that", np.linspace(-1, 1, 8, dtype=np.float32))
    assert read.read(*asked) == written.read(*asked)


def test_a_bundle_without_one_has_none(bundle):  # noqa: F811
    assert bundle.load_words() is None
    assert "words" not in bundle.to_dict()


def test_another_file_is_refused(bundle):  # noqa: F811
    bundle.set_words(make(), EVIDENCE)
    path = bundle.folder / FILE
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match="not the one"):
        Bundle.open(bundle.folder).load_words()
    assert "words" in {problem.part for problem in find_problems(bundle.folder)}
    path.unlink()
    with pytest.raises(BundleError, match="no file"):
        Bundle.open(bundle.folder).load_words()


@pytest.mark.parametrize("wrong", ["text", "shapes", "outputs", "missing"])
def test_a_crafted_file_is_refused(tmp_path, wrong):
    tensors = {"weights": np.zeros((BUCKETS + 1, 1)), "bias": np.zeros(1), "center": np.zeros(1), "spread": np.ones(1)}
    metadata = {"outputs": json.dumps([["x"]]), "forms": "{}"}
    if wrong == "shapes":
        tensors["weights"] = np.zeros((4, 1))
    if wrong == "outputs":
        metadata["outputs"] = "{"
    if wrong == "missing":
        del tensors["bias"]
    save_file(tensors, tmp_path / FILE, metadata)
    if wrong == "text":
        (tmp_path / FILE).write_text("no tensors")
    with pytest.raises(BundleError, match="cannot be read"):
        load_words(tmp_path / FILE, hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest())


def test_a_damaged_entry_is_refused(bundle):  # noqa: F811
    bundle.set_words(make(), EVIDENCE)
    change(bundle.folder, "words", "evidence", value={"weight": "much"})
    with pytest.raises(BundleError, match="another form"):
        Bundle.open(bundle.folder)
