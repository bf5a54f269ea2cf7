"""The file of a bundle's manifest: JSON, with the hash of all that it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import BundleError
from dualtune_mlx.files import require_file, write_json

FORMAT = 1
MANIFEST = "dualtune.json"
CHECKSUM = "checksum"
"""The entry with the hash of all others."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest as it stands in its file.

    Raises:
        BundleError: when it is missing, is not JSON, has another format, or is not as it was written.
    """
    try:
        value = json.loads(require_file(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            "there is no bundle", where=path.parent, expected=MANIFEST, fix="make one: dualtune train selector …"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            "a bundle's manifest cannot be read",
            where=path,
            got=error,
            fix="restore the file, or train again into another folder",
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise BundleError("a bundle has an unknown format", where=path, got=got, expected=FORMAT)
    written, found = value.pop(CHECKSUM, None), _hash(value)
    if written not in (None, found):  # earlier versions wrote none
        raise BundleError(
            "a bundle's manifest is not as it was written",
            where=path,
            got=found[:12],
            expected=str(written)[:12],
            fix=f'restore the file; where the change is your own, remove "{CHECKSUM}" from it',
        )
    return value


def write_manifest(path: Path, value: Mapping[str, Any]) -> None:
    """Write a manifest into its file, with its hash.

    Raises:
        UsageError: when it cannot be written.
    """
    write_json(path, {**value, CHECKSUM: _hash(value)})


def _hash(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of all that a manifest says beside its checksum, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
