"""A snapshot of the tools that can be used: the ``tools.json`` of a data folder.

snapshot = snapshot_tools(inspect_servers(read_config("mcp.json")), "data")
snapshot = snapshot_tools(map(report_listing, read_listings("tools.json")), "data")
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.data import read_tools, write_tools
from dualtune_mlx.errors import ToolError
from dualtune_mlx.mcp.inspection import ServerReport
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.changes import ToolChanges, compare_tools, find_reworded
from dualtune_mlx.tools.labels import label_tools


@dataclass(frozen=True)
class Snapshot:
    """The tools that can be used now, beside those of the snapshot before."""

    path: Path
    """The file."""
    tools: tuple[Tool, ...]
    """Its tools."""
    changes: ToolChanges | None = None
    """What changed since the snapshot before; None for the first one."""
    reworded: tuple[Tool, ...] = ()
    """Tools whose description changed, and nothing else."""

    def to_dict(self) -> dict[str, Any]:
        """The snapshot as JSON: ``file``, ``count`` and ``changes``, where the first snapshot has none."""
        reworded = [{"server": tool.server, "name": tool.name} for tool in self.reworded]
        changes = None if self.changes is None else {**self.changes.to_dict(), "reworded": reworded}
        return {"file": str(self.path), "count": len(self.tools), "changes": changes}


def snapshot_tools(reports: Iterable[ServerReport], folder: str | Path) -> Snapshot:
    """Write the tools that can be used into a data folder's ``tools.json``, and compare them with those there.

    Args:
        reports: what the servers offer.
        folder: the data folder; made when missing.

    Raises:
        DualTuneError: the failure of a server. Without its tools the snapshot would say that they are gone, so nothing
            is written.
        ToolError: when no tool can be used, or two have the same server and name.
        UsageError, DataError: when the snapshot before cannot be read, or this one cannot be written.
    """
    reports = tuple(reports)
    for report in reports:
        if report.failure is not None:
            raise report.failure
    tools = tuple(tool for report in reports for tool in report.tools)
    if not tools:
        raise ToolError("no tool can be used", expected="one at least", fix="see why each of them is set aside")
    label_tools(tools)
    path = Path(folder) / "tools.json"
    before = read_tools(path) if path.exists() else None
    write_tools(folder, tools)
    if before is None:
        return Snapshot(path, tools)
    return Snapshot(path, tools, compare_tools(before, tools), find_reworded(before, tools))
