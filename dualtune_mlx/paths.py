"""Folders of the user's machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder for converted models and the demo's servers: ``$DUALTUNE_CACHE`` or ``~/.cache/dualtune_mlx``."""
    return Path(os.environ.get("DUALTUNE_CACHE") or Path.home() / ".cache" / "dualtune_mlx").expanduser()
