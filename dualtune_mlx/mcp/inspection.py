"""What the servers of a configuration, or a list of tools in a file, offer, and what of it cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.data.keys import check_tool
from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.grammar.unheld import list_unheld_formats
from dualtune_mlx.mcp.client import ToolWarning, connect
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.listing import Listing
from dualtune_mlx.mcp.settled_schema import find_argument_names
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.labels import label_tools


@dataclass(frozen=True)
class ServerReport:
    """What one server offers."""

    config: ServerConfig
    """The server's configuration. A list of tools in a file has one without an address."""
    tools: tuple[Tool, ...] = ()
    """The tools that can be used, as a model sees them."""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What of these tools is hidden, or not held to their schema, by their names."""
    set_aside: Mapping[str, DualTuneError] = field(default_factory=dict)
    """Why the others cannot be used, by their names."""
    excluded: tuple[str, ...] = ()
    """The names of the tools that the configuration hides."""
    failure: DualTuneError | None = None
    """Why the server cannot be used at all."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON. Each of its ``tools`` has ``name``, ``usable``, ``reason`` and ``notes``."""
        usable = [_row(tool.name, True, None, self.notes.get(tool.name, ())) for tool in self.tools]
        others = [_row(name, False, str(why)) for name, why in self.set_aside.items()]
        return {
            "name": self.config.name,
            "address": self.config.address,
            "failure": None if self.failure is None else str(self.failure),
            "tools": [*usable, *others],
            "excluded": list(self.excluded),
        }


def inspect_servers(configs: Sequence[ServerConfig], timeout: float = 30.0) -> Iterator[ServerReport]:
    """Start the servers, one after the other, and report what each offers. One that fails does not touch the others.

    Args:
        configs: the servers.
        timeout: seconds that a server may take to start. Its configuration goes before.
    """
    for config in configs:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ToolWarning)  # the report has it
                with connect([config], timeout) as toolbox:
                    report = report_listing(toolbox.listings[0])
        except DualTuneError as failure:
            report = ServerReport(config, failure=failure)
        yield report


def report_listing(listing: Listing) -> ServerReport:
    """Report what a server lists. A tool that data files cannot have is set aside, too."""
    whole = {tool.name: tool for tool in listing.tools}
    tools, set_aside = list[Tool](), dict(listing.set_aside)
    notes: dict[str, tuple[str, ...]] = {}
    for tool in listing.shown:
        try:
            check_tool(tool.to_dict())
            label_tools([tool])
            found = tuple(_list_notes(whole[tool.name], tool))
        except DualTuneError as reason:
            set_aside[tool.name] = reason
        else:
            tools.append(tool)
            notes |= {tool.name: found} if found else {}
    return ServerReport(listing.config, tuple(tools), notes, set_aside, listing.excluded)


def _list_notes(tool: Tool, shown: Tool) -> Iterator[str]:
    if hidden := find_argument_names(tool.parameters) - find_argument_names(shown.parameters):
        yield f"hidden by the configuration: {', '.join(sorted(hidden))}"
    for path, name in list_unheld_formats(shown).items():
        yield f"{path} is not held to the format {name!r}"


def _row(name: str, usable: bool, reason: str | None, notes: Sequence[str] = ()) -> dict[str, Any]:
    return {"name": name, "usable": usable, "reason": reason, "notes": list(notes)}
