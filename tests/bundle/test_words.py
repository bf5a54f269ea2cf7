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
from dualtune_mlx.decoding import Evidence, RequestFeatures, WordClassifier
from dualtune_mlx.errors import BundleError
from tests.bundle.test_manifest import base, bundle, change, empty  # noqa: F401

EVIDENCE = Evidence(weight=4.0, sharpness=0.5)


def make(width: int = 8) -> WordClassifier:
    rng = np.random.default_rng(0)
    features = RequestFeatures(("note", "*not"), np.zeros(width, np.float32), np.ones(width, np.float32))
    weights = rng.normal(size=(2 + width, 2)).astype(np.float16).astype(np.float32)
    return WordClassifier(("files/read", "respond"), features, weights, np.ones(2, np.float32))


def test_it_comes_back_as_it_was_written(bundle):  # noqa: F811
    written = make()
    bundle.set_words(written, EVIDENCE)
    again = Bundle.open(bundle.folder)
    read = again.load_words()
    assert (again.words.evidence, read.choices, read.features.words) == (
        EVIDENCE,
        written.choices,
        written.features.words,
    )
    embedding = np.linspace(-1, 1, 8, dtype=np.float32)
    asked = ("note that", embedding, ["respond", "files/read"])
    assert read.log_probabilities(*asked) == written.log_probabilities(*asked)


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


@pytest.mark.parametrize("wrong", ["text", "shapes", "choices", "missing"])
def test_a_crafted_file_is_refused(tmp_path, wrong):
    tensors = {"weights": np.zeros((3, 2)), "bias": np.zeros(2), "center": np.zeros(1), "spread": np.ones(1)}
    metadata = {"words": json.dumps(["a", "b"]), "choices": json.dumps(["x", "y"])}
    if wrong == "shapes":
        tensors["weights"] = np.zeros((4, 2))
    if wrong == "choices":
        metadata["choices"] = "{"
    if wrong == "missing":
        del tensors["bias"]
    save_file(tensors, tmp_path / FILE, metadata)
    if wrong == "text":
        (tmp_path / FILE).write_text("no tensors")
    with pytest.raises(BundleError, match="cannot be read"):
        load_words(tmp_path, hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest())


def test_a_damaged_entry_is_refused(bundle):  # noqa: F811
    bundle.set_words(make(), EVIDENCE)
    change(bundle.folder, "words", "evidence", value={"weight": "much"})
    with pytest.raises(BundleError, match="another form"):
        Bundle.open(bundle.folder)
