"""Folders of the user's machine."""

from __future__ import annotations

import os
from pathlib import Path

from dualtune_mlx.errors import UsageError


def cache_folder() -> Path:
    """The folder for what is made once and kept: ``$DUALTUNE_CACHE`` or ``~/.cache/dualtune_mlx``.

    Raises:
        UsageError: when it belongs to another user, who could put other models and programs there.
    """
    folder = Path(os.environ.get("DUALTUNE_CACHE") or Path.home() / ".cache" / "dualtune_mlx").expanduser()
    owner = folder.stat().st_uid if folder.exists() else os.geteuid()
    if owner != os.geteuid():
        raise UsageError(
            "the cache folder belongs to another user",
            where=folder,
            got=f"user {owner}",
            expected=f"user {os.geteuid()}, who runs this",
            fix="name a folder of your own: DUALTUNE_CACHE=FOLDER",
        )
    return folder
