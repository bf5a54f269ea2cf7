"""Write trajectory files in the format that ``reading`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualtune_mlx.files import read_text, write_json, write_text
from dualtune_mlx.tools import Tool, Trajectory


def write_split(folder: str | Path, split: str, trajectories: Sequence[Trajectory]) -> None:
    """Write one split of a data folder, without the tools: they belong into ``tools.json`` beside it."""
    lines = [json.dumps(trajectory.to_dict(with_tools=False), ensure_ascii=False) for trajectory in trajectories]
    write_text(Path(folder) / f"{split}.jsonl", "\n".join(lines) + "\n")


def write_tools(folder: str | Path, tools: Sequence[Tool]) -> None:
    """Write the ``tools.json`` of a data folder."""
    write_json(Path(folder) / "tools.json", [tool.to_dict() for tool in tools])


def append_line(path: Path, line: Mapping[str, Any]) -> bool:
    """Append a JSON object to a file of lines, unless it is there: then nothing is written, and the answer is False."""
    text = json.dumps(line, ensure_ascii=False)
    before = read_text(path) if path.is_file() else ""
    if text in before.split("\n"):
        return False
    write_text(path, before + ("\n" if before and not before.endswith("\n") else "") + text + "\n")
    return True
