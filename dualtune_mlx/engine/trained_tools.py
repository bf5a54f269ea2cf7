"""The tools that an engine's bundle was trained on, beside those that it is shown."""

from __future__ import annotations

import warnings
from collections import deque

from dualtune_mlx.bundle import Bundle
from dualtune_mlx.errors import BundleError, DualTuneWarning
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.changes import ToolChanges, compare_tools

REMEMBERED = 16
"""How many tool sets are known to be compared already."""


class ToolsWarning(DualTuneWarning):
    """Tools are visible that the bundle was never trained on, or whose schema has changed since."""


class TrainedTools:
    """Compares tool sets with those of a bundle, and warns once of each set that has new or changed tools.

    Args:
        bundle: the bundle. Without one, or without tools in its manifest, nothing is known.
    """

    def __init__(self, bundle: Bundle | None) -> None:
        self._bundle = bundle if bundle is not None and bundle.tools else None
        self._changes = deque[tuple[tuple[Tool, ...], ToolChanges]](maxlen=REMEMBERED)
        self._told = deque[tuple[Tool, ...]](maxlen=REMEMBERED)

    def compare(self, tools: tuple[Tool, ...]) -> ToolChanges | None:
        """The differences; None where nothing is known. No warning of these tools follows."""
        if self._bundle is None:
            return None
        self._told.append(tools)
        return self._find_changes(self._bundle, tools)

    def warn_once(self, tools: tuple[Tool, ...]) -> None:
        """Warn of new and changed tools, unless this set was compared before."""
        if self._bundle is None or tools in self._told:
            return
        changes = self.compare(tools)
        if changes and (changes.untrained or changes.changed):
            message = BundleError(
                "the bundle does not know all visible tools as they are",
                where=self._bundle.folder,
                got=changes.describe(),
                fix="train on the tools as they are now, or show those of then; DualTune.compare_tools lists them all",
            )
            warnings.warn(str(message), ToolsWarning, stacklevel=4)

    def find_untrained(self, tools: tuple[Tool, ...]) -> list[int]:
        """The places of the tools that were not trained on; of all tools, where nothing is known."""
        if self._bundle is None:
            return list(range(len(tools)))
        untrained = self._find_changes(self._bundle, tools).untrained
        return [place for place, tool in enumerate(tools) if tool in untrained]

    def _find_changes(self, bundle: Bundle, tools: tuple[Tool, ...]) -> ToolChanges:
        known = (changes for seen, changes in self._changes if seen == tools)
        if (found := next(known, None)) is None:
            found = compare_tools(bundle.tools, tools)
            self._changes.append((tools, found))
        return found
