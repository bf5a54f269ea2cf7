"""A start bundle of trained adapters: small, and without the tools that they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from dualtune_mlx.bundle import AdapterEntry, Bundle, StageKey, adapter_path
from dualtune_mlx.errors import UsageError
from dualtune_mlx.files import atomic_folder

KEPT = ("rank", "alpha", "rslora", "dora", "targets", "layers", "activation", "examples", "validation_loss")
"""What is kept of how an adapter was trained."""


def pack_bundle(sources: Sequence[Path], folder: Path) -> Bundle:
    """Make one bundle of the adapters of several, in 16 bits. It names no tools, for it knows none by heart.

    Args:
        sources: bundles of the same model, template and cards; of a stage, the last one's adapter is taken.
        folder: the new bundle.

    Raises:
        UsageError: when there are no sources, or the folder exists.
        BundleError, AdapterError: when a source is damaged.
    """
    if folder.exists() or not sources:
        raise UsageError("a bundle cannot be packed", where=folder, expected="a new folder, and bundles to pack")
    opened = [Bundle.open(source) for source in sources]
    stages: dict[StageKey, AdapterEntry] = {}
    with atomic_folder(folder) as temporary:
        for bundle in opened:
            for (stage, scope), entry in bundle.stages.items():
                adapter = bundle.load_adapter(stage, scope).astype(mx.float16)
                adapter.save(temporary / adapter_path(stage, scope))
                training = {name: entry.training[name] for name in KEPT if name in entry.training}
                stages[stage, scope] = AdapterEntry(adapter_path(stage, scope), adapter.content_hash, training=training)
        replace(opened[0], folder=temporary, tools=(), stages=stages, prefixes=()).write()
    return Bundle.open(folder)


def lend_adapter(source: Path, stage: str, borrower: str, folder: Path) -> Path:
    """Write a bundle in which another stage has a stage's adapter, to go on from; returns its folder.

    Raises:
        BundleError, AdapterError: when the source is damaged.
    """
    opened = Bundle.open(source)
    lent = replace(opened, folder=folder, tools=(), stages={})
    lent.add_adapter(borrower, "", opened.load_adapter(stage), training={}, tools=())
    return folder
