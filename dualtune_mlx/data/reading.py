"""Trajectory files: a folder with ``train.jsonl``, ``valid.jsonl`` and ``test.jsonl``.

A line is ``{"messages": […], "tools": […]}`` in OpenAI's style; ``tools`` may be left out when
``tools.json`` lies beside the file. Every assistant call must be of a visible tool and fit its schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dualtune_mlx.data.keys import TOOLS_FILE, check_keys
from dualtune_mlx.data.parsing import parse_line, parse_tools
from dualtune_mlx.errors import DataError, UsageError, inside
from dualtune_mlx.files import parse_json, read_text, remove_leftovers
from dualtune_mlx.tools import Tool, Trajectory

SPLITS = ("train", "valid", "test")


def read_split(folder: str | Path, split: str) -> list[Trajectory]:
    """Read the trajectories of one split of a data folder.

    Raises:
        UsageError: when the folder has no such file, or the file cannot be read.
        DataError, ToolError: as in ``read_trajectories``.
    """
    folder = Path(folder)
    remove_leftovers(folder)
    path = folder / f"{split}.jsonl"
    if not path.exists():
        raise UsageError("a data file cannot be read", where=path, got=_describe(folder), fix=_way_out(folder, split))
    return read_trajectories(path)


def _describe(folder: Path) -> str:
    if not folder.is_dir():
        return "a file, no folder" if folder.exists() else "no such folder"
    return ", ".join(f"{name}.jsonl" for name in SPLITS if (folder / f"{name}.jsonl").exists()) or "no .jsonl file"


def _way_out(folder: Path, split: str) -> str:
    if folder.is_file():
        return f"name the folder: {folder.parent}"
    if split == "valid" and (folder / "train.jsonl").exists():
        return (
            "let every tenth line of train.jsonl be validation data, in the folder: mv train.jsonl all.jsonl; "
            """awk '{print > (NR % 10 ? "train.jsonl" : "valid.jsonl")}' all.jsonl"""
        )
    return f"write the conversations into {folder / split}.jsonl, one a line"


def read_trajectories(path: str | Path) -> list[Trajectory]:
    """Read the trajectories of a ``.jsonl`` file.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when the file is empty or a line is wrong; the message names the line.
    """
    path = Path(path)
    remove_leftovers(path.parent)
    beside = path.parent / "tools.json"
    numbered = [(n, line) for n, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not numbered:
        raise DataError("a data file is empty", where=path, expected='lines of {"messages": […], "tools": […]}')
    tools = read_tools(beside) if beside.is_file() else ()
    trajectories = []
    for number, line in numbered:
        with inside(f"{path}:{number}"):
            trajectories.append(replace(parse_line(line, tools), name=f"{path}:{number}"))
    return trajectories


def read_tools(path: str | Path) -> tuple[Tool, ...]:
    """Read tools from a JSON file.

    The file holds a list of tools, or ``{"tools": […], "server": …}`` like MCP's answer to ``tools/list``.

    Raises:
        UsageError: when the file cannot be read.
        DataError, ToolError: when it holds no such list, or a tool's schema is not valid.
    """
    path = Path(path)
    value = parse_json(read_text(path), "a tools file is not JSON", path)
    listed = value.get("tools") if isinstance(value, Mapping) else value
    if not isinstance(listed, list) or not listed:
        raise DataError("a tools file holds no list of tools", where=path, expected='[…] or {"tools": […]}')
    with inside(path):
        check_keys(value, TOOLS_FILE)
        server = str(value.get("server") or "") if isinstance(value, Mapping) else ""
        return parse_tools(listed, server)
