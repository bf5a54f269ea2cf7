"""The ``mcpServers`` file that Claude Desktop, VS Code and others use, read as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp.address import read_address
from dualtune_mlx.mcp.config_file import EXAMPLE, read_config_file
from dualtune_mlx.mcp.host_keys import check_root, drop_ignored, is_off, read_host_keys
from dualtune_mlx.mcp.own_keys import OUTPUT_LIMIT, read_own_keys
from dualtune_mlx.mcp.rules import Rule
from dualtune_mlx.mcp.secrets import Secrets, strip_credentials
from dualtune_mlx.mcp.values import check_type, name_type, read_value
from dualtune_mlx.mcp.variables import Variables
from dualtune_mlx.tools import RESPOND

ROOTS = ("mcpServers", "servers")  # the second is VS Code's


@dataclass(frozen=True)
class ServerConfig:
    """How to reach one MCP server, by a ``command`` over stdio or a ``url`` over HTTP, and how its tools are used.

    The fields that may hold secrets are not in the ``repr``.
    """

    name: str
    """The server's name in the configuration."""
    command: str = ""
    """The program of a stdio server."""
    args: tuple[str, ...] = field(default=(), repr=False)
    """The arguments of the program."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables that are set for the program."""
    cwd: str | None = None
    """The folder that the program is started in; None: the current one."""
    pinned: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Arguments with their values. The host fills them in, and the model does not see them."""
    exclude: tuple[str, ...] = ()
    """The names of tools that are not offered at all."""
    url: str = field(default="", repr=False)
    """The address of an HTTP server."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """HTTP headers that are sent with every request."""
    approve: str = "auto"
    """Whether the tools may be called: "auto", "ask" (with the user's approval only), or "never"."""
    timeout: float | None = None
    """Seconds that a call may take; None: as the toolbox says."""
    start_timeout: float | None = None
    """Seconds that the start may take; None: as the toolbox says."""
    output_limit: int = OUTPUT_LIMIT
    """The most bytes that the server may write for one answer."""
    allow: tuple[str, ...] = ()
    """The names of tools that an agent may call without asking."""
    trust_hints: bool = False
    """Believe the server when it says that a tool only reads."""
    rules: tuple[Rule, ...] = ()
    """What arguments may be."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of the tools in each group of tools that are chosen together. A tool is in one group at most."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment variables that the configuration names, with their values."""
    trust_unhinted: bool = False
    """Believe that a tool is not destructive where the server does not say so."""
    include: tuple[str, ...] | None = None
    """The names of the tools that are offered at all; None: all that are not excluded."""

    @property
    def address(self) -> str:
        """The command or the URL, without secrets."""
        return self.command or strip_credentials(self.url)

    def offers(self, tool: str) -> bool:
        """Whether a tool of this name is offered."""
        return tool not in self.exclude and (self.include is None or tool in self.include)

    def group_of(self, tool: str) -> str:
        """The name of the group that a tool is in; "" where it is in no group."""
        return next((name for name, tools in self.groups.items() if tool in tools), "")

    @property
    def secrets(self) -> Secrets:
        """What no message may show. A variable is a secret, and so is the text that it stands in."""
        url = {"url": self.url} if self.url and self.url != self.address else {}
        return tuple(pair for part in (url, self.variables, self.headers, self.env) for pair in part.items())


def read_config(path: str | Path) -> tuple[ServerConfig, ...]:
    """Read the servers of an ``mcpServers`` file, in its order, without those that are switched off.

    What other hosts write is obeyed, or refused by name.

    Raises:
        UsageError: when the file is missing, is not JSON, describes a server wrongly, or says what is not obeyed here.
    """
    content = read_config_file(Path(path))
    check_root(content, path)
    roots = [root for root in ROOTS if content.get(root) is not None]
    servers = content[roots[0]] if roots else None
    if not isinstance(servers, dict) or len(roots) > 1:
        raise UsageError(
            "the file has two lists of servers" if len(roots) > 1 else "the file has no 'mcpServers' object",
            where=path,
            got=" and ".join(roots) if len(roots) > 1 else name_type(servers),
            expected=EXAMPLE,
            fix="put the servers under the key 'mcpServers'",
        )
    configs = (_read_server(name, entry, Path(path)) for name, entry in servers.items())
    return tuple(config for config in configs if config is not None)


def _read_server(name: str, entry: Any, path: Path) -> ServerConfig | None:
    where = f"{path}, server {name!r}"
    if name == RESPOND.name:
        raise UsageError(
            "a server has a reserved name",
            where=where,
            expected=f"another name: {name!r} is the choice to answer in words",
            fix="rename the server in the MCP configuration",
        )
    if not name.strip() or not name.isprintable():
        raise UsageError(
            "a server's name cannot be shown",
            where=where,
            expected="printable characters, not spaces alone",
            fix="rename the server in the MCP configuration",
        )
    check_type(entry, dict, where, "an object with 'command' or 'url'")
    entry = {key: value for key, value in entry.items() if value is not None}
    if is_off(entry, where):
        return None
    variables = Variables(os.environ, path)
    ours = read_own_keys(read_value(entry, "dualtune", dict, {}, where), f"{where}, 'dualtune'", variables)
    entry = drop_ignored(entry, ours.pop("ignore"), where)
    theirs = read_host_keys(entry, where, has_timeout=ours["timeout"] is not None)
    for key in ("exclude", "allow"):
        theirs[key] += ours[key]
    address = read_address(entry, where, variables)
    return ServerConfig(name=name, **address, **{**ours, **theirs}, variables=variables.used)
