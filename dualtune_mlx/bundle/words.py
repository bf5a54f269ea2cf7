"""The file of a bundle's word classifier: its tensors, with its outputs as metadata."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dualtune_mlx.decoding import WordClassifier
from dualtune_mlx.errors import BundleError

FILE = "words.safetensors"
PARTS = ("weights", "bias", "center", "spread")


def encode_words(classifier: WordClassifier) -> tuple[bytes, str]:
    """The content of a classifier's file, and its hash."""
    tensors: dict[str, NDArray[Any]] = {name: getattr(classifier, name) for name in PARTS}
    tensors["weights"] = tensors["weights"].astype(np.float16)
    metadata = {"outputs": json.dumps(classifier.outputs), "forms": json.dumps(classifier.forms)}
    content = save(tensors, metadata)
    return content, hashlib.sha256(content).hexdigest()


def load_words(path: Path, content_hash: str) -> WordClassifier:
    """Read the classifier of a bundle from its file.

    Raises:
        BundleError: when it is not the one that was written, or is damaged.
    """
    got = _hash(path) if path.is_file() else "no file"
    if got != content_hash:
        raise BundleError(
            "the word classifier is not the one that the bundle's manifest describes",
            where=path,
            got=got[:12],
            expected=content_hash[:12],
            fix="fit it again: dualtune bundle words",
        )
    try:
        return _read(path)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(
            "the word classifier cannot be read", where=path, got=error, fix="fit it again: dualtune bundle words"
        ) from error


def _read(path: Path) -> WordClassifier:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name).astype(np.float32) for name in PARTS}
        outputs, forms = (json.loads(file.metadata()[name]) for name in ("outputs", "forms"))
    return WordClassifier(tuple(map(tuple, outputs)), **arrays, forms=forms)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
