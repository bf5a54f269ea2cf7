"""The ``mcpServers`` file that Claude Desktop and others use, read as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError

EXAMPLE = '{"mcpServers": {"time": {"command": "mcp-server-time", "args": []}}}'
OUR_KEYS = ("pinned", "exclude")


@dataclass(frozen=True)
class ServerConfig:
    """How to start one MCP server over stdio, and how its tools are shown.

    ``pinned`` arguments are filled in by the host and never asked of the model;
    tools named in ``exclude`` are not offered at all.
    """

    name: str
    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # holds secrets
    cwd: str | None = None
    pinned: Mapping[str, Any] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()


def read_config(path: str | Path) -> tuple[ServerConfig, ...]:
    """The servers of an ``mcpServers`` file, in its order, without the disabled ones.

    Keys that only other hosts know are ignored; keys inside ``dualtune`` must be known.

    Raises:
        UsageError: when the file is missing, is not JSON, or describes a server wrongly.
    """
    servers = _read_json(path).get("mcpServers")
    if not isinstance(servers, dict):
        raise UsageError(
            "the file has no 'mcpServers' object",
            where=path,
            got=_kind(servers),
            expected=EXAMPLE,
            fix="put the servers under the key 'mcpServers'",
        )
    configs = (_server(name, entry, f"{path}, server {name!r}") for name, entry in servers.items())
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
        raise UsageError("the MCP configuration is not a JSON object", where=path, got=_kind(value), expected=EXAMPLE)
    return value


def _server(name: str, entry: Any, where: str) -> ServerConfig | None:
    _require(entry, dict, where, "an object with 'command'")
    if _get(entry, "disabled", bool, False, where):
        return None
    if "url" in entry:
        raise UsageError(
            f"server {name!r} is reached by streamable HTTP, which is not supported yet",
            where=where,
            got="a 'url'",
            expected="a 'command' that starts a stdio server",
            fix='use the server\'s stdio form, or set "disabled": true',
        )
    command = _get(entry, "command", str, "", where)
    if not command:
        raise UsageError(
            f"server {name!r} has no command",
            where=where,
            got=f"keys {sorted(entry)}",
            expected="'command': a program to run",
            fix=f"write it as {EXAMPLE}",
        )
    ours = _get(entry, "dualtune", dict, {}, where)
    _reject_unknown(ours, f"{where}, 'dualtune'")
    return ServerConfig(
        name=name,
        command=command,
        args=_strings(entry, "args", where),
        env=_environment(entry, where),
        cwd=_get(entry, "cwd", str, None, where),
        pinned=_get(ours, "pinned", dict, {}, f"{where}, 'dualtune'"),
        exclude=_strings(ours, "exclude", f"{where}, 'dualtune'"),
    )


def _reject_unknown(ours: Mapping[str, Any], where: str) -> None:
    unknown = sorted(set(ours) - set(OUR_KEYS))
    if unknown:
        raise UsageError(
            "unknown keys in 'dualtune'",
            where=where,
            got=", ".join(unknown),
            expected=f"only {', '.join(OUR_KEYS)}",
            fix="remove or rename them",
        )


def _strings(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = _get(entry, key, list, [], where)
    for index, value in enumerate(values):
        _require(value, str, f"{where}, {key!r}[{index}]", "a string")
    return tuple(values)


def _environment(entry: Mapping[str, Any], where: str) -> dict[str, str]:
    env: dict[str, str] = _get(entry, "env", dict, {}, where)
    for key, value in env.items():
        _require(value, str, f"{where}, 'env', {key!r}", "a string")
    return env


def _get(entry: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    value = entry.get(key)
    if value is None:
        return default
    _require(value, kind, f"{where}, {key!r}", JSON_NAMES[kind])
    return value


def _require(value: Any, kind: type, where: str, expected: str) -> None:
    """Refuse a value of another type, naming the type alone: the value may be a secret."""
    if not isinstance(value, kind):
        raise UsageError(
            "the MCP configuration has a value of the wrong type",
            where=where,
            got=_kind(value),
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


def _kind(value: Any) -> str:
    return JSON_NAMES[type(value)]
