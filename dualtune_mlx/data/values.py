"""``values.json`` of a data folder: values that the user's servers really hold, for arguments that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import DataError
from dualtune_mlx.files import parse_json, read_text, write_json


def read_values(folder: str | Path) -> dict[str, list[Any]]:
    """The values by ``server/tool/path`` and by names in snake case; none where the folder has no such file.

    Raises:
        UsageError: when the file cannot be read.
        DataError: when it is no object of lists of strings and numbers.
    """
    path = Path(folder) / "values.json"
    if not path.exists():
        return {}
    value = parse_json(read_text(path), "the values are not JSON", path)
    lists = value.values() if isinstance(value, dict) else [None]
    if not all(isinstance(items, list) and all(isinstance(one, str | int | float) for one in items) for items in lists):
        raise DataError("the values cannot be read", where=path, expected='{"server/tool/path": ["…", 1], "name": […]}')
    return dict(value)


def write_values(folder: str | Path, values: Mapping[str, Sequence[Any]]) -> None:
    """Write the ``values.json`` of a data folder.

    Raises:
        UsageError: when the folder cannot be written.
    """
    write_json(Path(folder) / "values.json", {key: list(items) for key, items in values.items()})
