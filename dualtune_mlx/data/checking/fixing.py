"""``--fix``: lines are taken out of a file, and kept in a file beside it with the reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.data.checking.store import Store
from dualtune_mlx.data.lines import iter_blocks, read_block
from dualtune_mlx.files import atomic_files


@dataclass(frozen=True)
class Removed:
    """What was taken out of a file."""

    path: Path
    """The file."""
    kept_in: Path
    """Where the lines are now, with their reasons."""
    kinds: dict[str, int]
    """How many lines there were of each kind of fault."""

    def to_dict(self) -> dict[str, Any]:
        """The removal as JSON."""
        return {"file": self.path.name, "kept_in": str(self.kept_in), "kinds": self.kinds}


def remove_lines(path: Path, store: Store) -> Removed | None:
    """Take the lines out of a file that are better left out; the others stay byte for byte.

    They are added to ``NAME.removed.jsonl``: ``{"file", "line", "reason", "detail", "text"}``.

    Returns:
        What was taken out; None where nothing was.

    Raises:
        UsageError: when a file cannot be read or written.
    """
    faults = store.iter_removable(path.name)
    fault = next(faults, None)
    if fault is None:
        return None
    beside = path.with_name(f"{path.stem}.removed.jsonl")
    kinds: Counter[str] = Counter()
    with atomic_files(path.parent) as temporary, ExitStack() as stack:
        kept, aside = (stack.enter_context((temporary / one.name).open("wb")) for one in (path, beside))
        if beside.is_file():
            aside.writelines(line + b"\n" for _, line in _iter_lines(beside))
        for number, line in _iter_lines(path):
            if fault is None or number != fault[0]:
                kept.write(line + b"\n")
                continue
            _, kind, what = fault
            entry = {"file": path.name, "line": number, "reason": kind, "detail": what}
            text = json.dumps({**entry, "text": line.decode(errors="replace")}, ensure_ascii=False)
            aside.write(text.encode() + b"\n")
            kinds[kind] += 1
            fault = next(faults, None)
    return Removed(path, beside, dict(kinds))


def _iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    return (numbered for block in iter_blocks(path) for numbered in read_block(block))
