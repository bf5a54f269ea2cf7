"""The ``mcpServers`` file that Claude Desktop, VS Code and others use, read as it is."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dualtune_mlx.errors import DualTuneWarning, UsageError
from dualtune_mlx.mcp.rules import Rule, read_rules
from dualtune_mlx.mcp.secrets import Secrets, strip_credentials
from dualtune_mlx.mcp.variables import Variables
from dualtune_mlx.tools import RESPOND

EXAMPLE = '{"mcpServers": {"time": {"command": "mcp-server-time", "args": []}}}'
ROOTS = ("mcpServers", "servers")  # the second is VS Code's
TYPES = {"stdio": "command", "http": "url", "streamable-http": "url", "streamableHttp": "url"}
KEYS = ("command", "args", "env", "cwd", "url", "headers", "type", "disabled", "dualtune")
OUR_KEYS = (
    *("pinned", "exclude", "approve", "timeout", "start_timeout", "output_limit"),
    *("allow", "trust_hints", "trust_unhinted", "rules", "groups"),
)
APPROVALS = ("auto", "ask", "never")
OUTPUT_LIMIT = 32 * 2**20


class ConfigWarning(DualTuneWarning):
    """A configuration file says something that has no effect here."""


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
    pinned: Mapping[str, Any] = field(default_factory=dict)
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

    @property
    def address(self) -> str:
        """The command or the URL, without secrets."""
        return self.command or strip_credentials(self.url)

    def offers(self, tool: str) -> bool:
        """Whether a tool of this name is offered."""
        return tool not in self.exclude

    def group_of(self, tool: str) -> str:
        """The name of the group that a tool is in; "" where it is in no group."""
        return next((name for name, tools in self.groups.items() if tool in tools), "")

    @property
    def secrets(self) -> Secrets:
        """What no message may show. A variable is a secret, and so is the text that it stands in."""
        url = {"url": self.url} if self.url and self.url != self.address else {}
        return tuple(pair for part in (url, self.variables, self.headers, self.env) for pair in part.items())


def read_config(path: str | Path) -> tuple[ServerConfig, ...]:
    """Read the servers of an ``mcpServers`` file, in its order, without the disabled ones.

    A ``ConfigWarning`` names the keys that only other hosts know. Inside ``dualtune`` unknown keys are refused.

    Raises:
        UsageError: when the file is missing, is not JSON, or describes a server wrongly.
    """
    content = _read_json(path)
    servers = next((content[root] for root in ROOTS if root in content), None)
    if not isinstance(servers, dict):
        raise UsageError(
            "the file has no 'mcpServers' object",
            where=path,
            got=_name_type(servers),
            expected=EXAMPLE,
            fix="put the servers under the key 'mcpServers'",
        )
    configs = (_read_server(name, entry, Path(path)) for name, entry in servers.items())
    return tuple(config for config in configs if config is not None)


def _read_json(path: str | Path) -> dict[str, Any]:
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            "the MCP configuration cannot be read",
            where=path,
            got=error.strerror,
            expected="a readable JSON file",
            fix="check the path",
        ) from error
    except json.JSONDecodeError as error:
        raise UsageError(
            "the MCP configuration is not JSON",
            where=f"{path}, line {error.lineno}, column {error.colno}",
            got=error.msg,
            expected=EXAMPLE,
            fix="mend the JSON at that place",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            "the MCP configuration is not UTF-8 text", where=path, got=error.reason, fix="save the file as UTF-8"
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            "the MCP configuration is not a JSON object", where=path, got=_name_type(value), expected=EXAMPLE
        )
    return value


def _read_server(name: str, entry: Any, path: Path) -> ServerConfig | None:
    where = f"{path}, server {name!r}"
    if name == RESPOND.name:
        raise UsageError(
            "a server has a reserved name",
            where=where,
            expected=f"another name: {name!r} is the choice to answer in words",
            fix="rename the server in the MCP configuration",
        )
    _check_type(entry, dict, where, "an object with 'command' or 'url'")
    if _read_value(entry, "disabled", bool, False, where):
        return None
    if others := [key for key in entry if key not in KEYS]:
        warnings.warn(f"{where}: no effect here: {', '.join(others)}", ConfigWarning, stacklevel=2)
    ours = _read_value(entry, "dualtune", dict, {}, where)
    variables = Variables(os.environ, path)
    return ServerConfig(
        name=name,
        **_read_address(entry, where, variables),
        **_read_own_keys(ours, f"{where}, 'dualtune'"),
        variables=variables.used,
    )


def _read_address(entry: Mapping[str, Any], where: str, variables: Variables) -> dict[str, Any]:
    """The fields of ``ServerConfig`` that say how the server is reached."""
    kind = _read_value(entry, "type", str, "http" if "url" in entry else "stdio", where)
    if kind not in TYPES:
        raise UsageError(
            f"the server is reached by {kind!r}, which is not supported",
            where=where,
            got=f"'type': {kind!r}",
            expected=" or ".join(TYPES),
            fix='use another form of the server, or set "disabled": true',
        )
    key = TYPES[kind]
    target = variables.expand(_read_value(entry, key, str, "", where), f"{where}, {key!r}")
    if not target:
        raise UsageError(
            f"the server has no {key}",
            where=where,
            got=f"keys {sorted(entry)}",
            expected="'command', a program to run, or 'url', an address",
            fix=f"write it as {EXAMPLE}",
        )
    if key == "url":
        _check_url(target, where)
        return {"url": target, "headers": _read_headers(entry, where, variables)}
    cwd = _read_value(entry, "cwd", str, None, where)
    return {
        "command": target,
        "args": tuple(variables.expand(text, f"{where}, 'args'") for text in _read_strings(entry, "args", where)),
        "env": _read_texts(entry, "env", where, variables),
        "cwd": cwd and variables.expand(cwd, f"{where}, 'cwd'"),
    }


def _read_own_keys(ours: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of ``ServerConfig`` that the keys of ``dualtune`` set."""
    unknown = sorted(set(ours) - set(OUR_KEYS))
    if unknown:
        raise UsageError(
            "unknown keys in 'dualtune'",
            where=where,
            got=", ".join(unknown),
            expected=f"only {', '.join(OUR_KEYS)}",
            fix="remove or rename them",
        )
    approve = _read_value(ours, "approve", str, "auto", where)
    if approve not in APPROVALS:
        raise UsageError("there is no such approval policy", where=where, got=approve, expected=", ".join(APPROVALS))
    return {
        "pinned": _read_value(ours, "pinned", dict, {}, where),
        "exclude": _read_strings(ours, "exclude", where),
        "approve": approve,
        "allow": _read_strings(ours, "allow", where),
        "trust_hints": _read_value(ours, "trust_hints", bool, False, where),
        "trust_unhinted": _read_value(ours, "trust_unhinted", bool, False, where),
        "rules": read_rules(_read_value(ours, "rules", list, [], where), where),
        "groups": _read_groups(ours, where),
        "timeout": _read_positive(ours, "timeout", None, where),
        "start_timeout": _read_positive(ours, "start_timeout", None, where),
        "output_limit": int(_read_positive(ours, "output_limit", OUTPUT_LIMIT, where)),
    }


def _read_groups(ours: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    listed: dict[str, Any] = _read_value(ours, "groups", dict, {}, where)
    where = f"{where}, 'groups'"
    groups = {name: _read_strings(listed, name, where) for name in listed}
    for name, tools in groups.items():
        if not name.strip() or not name.isprintable() or name == RESPOND.name:
            raise UsageError(
                "a group of tools has no name that can be used",
                where=where,
                got=repr(name),
                expected=f"printable characters, and not {RESPOND.name!r}, which is a choice of its own",
            )
        if not tools:
            raise UsageError("a group of tools is empty", where=f"{where}, {name!r}", fix="name its tools or remove it")
    if twice := [tool for tool, times in Counter(chain(*groups.values())).items() if times > 1]:
        raise UsageError(
            "a tool is named twice in the groups",
            where=where,
            got=", ".join(twice),
            expected="every tool in one group at most",
            fix="keep it in the group in which it is to be chosen",
        )
    return groups


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(
            "the server's 'url' is not an HTTP address",
            where=where,
            expected="https://host/path",
            fix="write the address of the server's MCP endpoint",
        )


def _read_headers(entry: Mapping[str, Any], where: str, variables: Variables) -> dict[str, str]:
    headers = _read_texts(entry, "headers", where, variables)
    for name, value in headers.items():
        if not (name + value).isascii() or not (name + value).isprintable():
            raise UsageError(
                "a header cannot be sent as it is",
                where=f"{where}, 'headers', {name!r}",
                expected="printable ASCII without line breaks",
                fix="mend the header; look for a line break at the end of an environment variable",
            )
    return headers


def _read_texts(entry: Mapping[str, Any], key: str, where: str, variables: Variables) -> dict[str, str]:
    texts: dict[str, Any] = _read_value(entry, key, dict, {}, where)
    for name, value in texts.items():
        _check_type(value, str, f"{where}, {key!r}, {name!r}", "a string")
    return {name: variables.expand(value, f"{where}, {key!r}, {name!r}") for name, value in texts.items()}


def _read_strings(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = _read_value(entry, key, list, [], where)
    for index, value in enumerate(values):
        _check_type(value, str, f"{where}, {key!r}[{index}]", "a string")
    return tuple(values)


def _read_positive(entry: Mapping[str, Any], key: str, default: float | None, where: str) -> Any:
    value = entry.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UsageError(
            "the MCP configuration has a value out of range",
            where=f"{where}, {key!r}",
            got=value if isinstance(value, int | float) else _name_type(value),
            expected="a positive number",
        )
    return value


def _read_value(entry: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    value = entry.get(key)
    if value is None:
        return default
    _check_type(value, kind, f"{where}, {key!r}", JSON_NAMES[kind])
    return value


def _check_type(value: Any, kind: type, where: str, expected: str) -> None:
    """Refuse a value of another type. The message has only the type: the value may be a secret."""
    if not isinstance(value, kind):
        raise UsageError(
            "the MCP configuration has a value of the wrong type",
            where=where,
            got=_name_type(value),
            expected=expected,
            fix=f"write {expected} there",
        )


JSON_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


def _name_type(value: Any) -> str:
    return JSON_NAMES[type(value)]
