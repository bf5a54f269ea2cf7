"""Trajectories to files, in the form that ``reading`` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dualtune_mlx.files import write_json, write_text
from dualtune_mlx.tools import Tool, Trajectory


def write_split(folder: str | Path, split: str, trajectories: Sequence[Trajectory]) -> None:
    """Write one split; the tools are expected in ``tools.json`` beside it."""
    lines = [json.dumps(trajectory.to_dict(with_tools=False), ensure_ascii=False) for trajectory in trajectories]
    write_text(Path(folder) / f"{split}.jsonl", "\n".join(lines) + "\n")


def write_tools(folder: str | Path, tools: Sequence[Tool]) -> None:
    """Write ``tools.json``."""
    write_json(Path(folder) / "tools.json", [tool.to_dict() for tool in tools])
