"""The parts of a bundle that its manifest knows by their content: adapters, and the word classifier.

A new part is written beside the one that it replaces, under a name with its hash. Then the manifest goes over to it,
and at last it takes the other's place. So a bundle is the old or the new one whenever the program ends, and whoever
opens it next tidies up.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from dualtune_mlx.files import remove_leftovers, try_lock_folder

FOLDERS = ("arguments", "prefixes")
"""The folders in a bundle that hold parts, beside the bundle's own."""
NEW = re.compile(r".+\.new-[0-9a-f]{12}")

Parts = Mapping[str, str]
"""The hash of each part's content, by its path in the bundle."""


def name_new(path: Path, content_hash: str) -> Path:
    """Where a part is written that is to replace the one at a path."""
    return path.with_name(f"{path.name}.new-{content_hash[:12]}")


def find_part(folder: Path, path: str, content_hash: str) -> Path:
    """Where a part is: in its place, or still beside it."""
    new = name_new(folder / path, content_hash)
    return new if new.exists() else folder / path


def settle_parts(folder: Path, parts: Parts) -> None:
    """Move new parts to their places, and remove those that the manifest does not name. The bundle is locked.

    Raises:
        OSError: when the bundle cannot be written.
    """
    places = {name_new(folder / path, content_hash): folder / path for path, content_hash in parts.items()}
    for new in _find_new(folder):
        place = places.get(new, new)
        if place.is_dir():
            shutil.rmtree(place)
        if place == new:
            new.unlink(missing_ok=True)
        else:
            new.replace(place)


def tidy_up(folder: Path, read_parts: Callable[[], Parts]) -> None:
    """Do what a program that ended in between has left to do, unless the bundle is being written, or cannot be.

    Args:
        folder: the bundle.
        read_parts: reads the parts from the manifest, as it is once the bundle is locked.
    """
    for part in _own_folders(folder):
        remove_leftovers(part)
    if _find_new(folder):
        with try_lock_folder(folder) as locked, suppress(OSError):
            if locked:
                settle_parts(folder, read_parts())


def _own_folders(folder: Path) -> list[Path]:
    """The folders that hold the parts. Links lead to others' folders."""
    return [folder, *(folder / name for name in FOLDERS if not (folder / name).is_symlink())]


def _find_new(folder: Path) -> list[Path]:
    """The parts that are not in their places."""
    found = (path for part in _own_folders(folder) for path in part.glob("*.new-*"))
    return [path for path in found if NEW.fullmatch(path.name) and not path.is_symlink()]
