"""The start bundle: adapters that know what tools are, and no tool by heart. Training goes on from them.

``python -m dualtune_mlx.start`` makes one (see ``recipe``).
"""

from __future__ import annotations

from pathlib import Path

from dualtune_mlx.bundle import MANIFEST, Bundle
from dualtune_mlx.models import BaseModel

BUNDLES = Path(__file__).parent / "bundles"
"""The bundles that come with the package, a folder each."""


def start_bundle(model: str | BaseModel) -> Path | None:
    """Find the start bundle of a base model.

    Args:
        model: a loaded model, which is known by its fingerprint; or the name or path that it would be loaded by, which
            is compared as it is. Opening the bundle with another model is refused.

    Returns:
        The bundle's folder; None where the model has none.
    """
    for manifest in sorted(BUNDLES.glob(f"*/{MANIFEST}")):
        bundle = Bundle.open(manifest.parent)
        if model == bundle.model or (isinstance(model, BaseModel) and model.fingerprint == bundle.fingerprint):
            return bundle.folder
    return None
