"""What the servers of a configuration offer, and what of it cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.mcp.client import ToolWarning, connect
from dualtune_mlx.mcp.config import ServerConfig


@dataclass(frozen=True)
class ServerReport:
    """What one server offers."""

    config: ServerConfig
    """The server's configuration."""
    tools: tuple[str, ...] = ()
    """The names of the tools that can be used."""
    set_aside: Mapping[str, DualTuneError] = field(default_factory=dict)
    """Why the others cannot be used, by their names."""
    failure: DualTuneError | None = None
    """Why the server cannot be used at all."""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON. Each of its ``tools`` has ``name``, ``usable`` and ``reason``."""
        usable = [{"name": name, "usable": True, "reason": None} for name in self.tools]
        others = [{"name": name, "usable": False, "reason": str(why)} for name, why in self.set_aside.items()]
        return {
            "name": self.config.name,
            "address": self.config.address,
            "failure": None if self.failure is None else str(self.failure),
            "tools": [*usable, *others],
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
                    set_aside = {name.removeprefix(f"{config.name}/"): why for name, why in toolbox.set_aside.items()}
                    report = ServerReport(config, tuple(tool.name for tool in toolbox.tools), set_aside)
        except DualTuneError as failure:
            report = ServerReport(config, failure=failure)
        yield report
