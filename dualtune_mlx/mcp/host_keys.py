"""Keys that other hosts have in a server's entry. Each is obeyed, passed over because it is decoration, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp import address
from dualtune_mlx.mcp.values import read_positive, read_strings, read_value

SWITCHES = {"disabled": False, "enabled": True, "isActive": True}
"""Keys that switch a server off and on, with the value that is on."""
EXCLUDE = ("disabledTools", "excludeTools", "disabled_tools")
INCLUDE = ("tools", "includeTools", "enabledTools", "enabled_tools")
ALLOW = ("autoApprove", "alwaysAllow")
DECORATION = (
    *("name", "displayName", "title", "description", "comment", "_comment", "//", "note", "tags", "version"),
    *("icon", "icons", "iconPath", "logoUrl", "provider", "providerUrl", "homepage", "gallery"),
)
KNOWN = frozenset(
    (
        *("type", "dualtune", "timeout", *SWITCHES, *EXCLUDE, *INCLUDE, *ALLOW, *DECORATION),
        *(key for way, keys in address.KEYS.items() for key in (*way, *keys)),
    )
)
WAYS_OUT = {
    "envFile": 'name its variables in "env", as in {"KEY": "${KEY}"}, and start with them set',
    "trust": 'name the tools in "allow" under "dualtune"',
    "auth": 'put a token into "headers"',
    "oauth": 'put a token into "headers"',
    "http_headers": 'call it "headers"',
    "baseUrl": 'call it "url"',
    "transport": 'call it "type"',
    "transportType": 'call it "type"',
    "environment": 'call it "env"',
    "workingDirectory": 'call it "cwd"',
    "working_directory": 'call it "cwd"',
    "tool_timeout_sec": 'write "timeout" under "dualtune"',
    "startup_timeout_sec": 'write "start_timeout" under "dualtune"',
    "sandbox": "start the server in a sandbox by its command",
    "sandboxEnabled": "start the server in a sandbox by its command",
}
IGNORE = 'remove it; or, if another program needs it, name it in "dualtune": {"ignore": […]}'
WHICH_SERVERS = (
    *("allowMCPServers", "excludeMCPServers", "allowedMcpServers", "deniedMcpServers", "enabledMcpServers"),
    *("disabledMcpServers", "enabledMcpjsonServers", "disabledMcpjsonServers", "sandbox"),
)
"""Keys beside the servers that say which of them run, and with what rights."""
IN_SECONDS, IN_MILLISECONDS = 1_000, 5_000
"""Hosts write timeouts in seconds or in milliseconds: below the one number, and from the other one on, it is clear."""


def check_root(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a file that chooses among its servers beside them.

    Raises:
        UsageError: naming the keys.
    """
    settings = content.get("mcp")  # Gemini CLI's, beside mcpServers
    settings = settings if isinstance(settings, dict) else {}
    found = [f"mcp.{key}" for key in ("allowed", "excluded", "serverCommand") if settings.get(key) is not None]
    permissions = content.get("permissions")  # Claude Code's
    rules = permissions.items() if isinstance(permissions, dict) else ()
    found += [f"permissions.{key}" for key, named in rules if key in ("deny", "ask") and "mcp__" in str(named)]
    if found := [*found, *(key for key in WHICH_SERVERS if content.get(key))]:
        raise UsageError(
            "the MCP configuration chooses among its servers and tools by keys that are not obeyed here",
            where=path,
            got=", ".join(found),
            expected='"disabled": true at a server that is not to run, "disabledTools" for its tools',
            fix="say it so, and leave the keys out of the file that is given here",
        )


def drop_ignored(entry: Mapping[str, Any], ignored: Sequence[str], where: str) -> dict[str, Any]:
    """The entry without the keys that the user wants to be ignored.

    Raises:
        UsageError: when the entry has no such key.
    """
    if missing := [key for key in ignored if key not in entry]:
        raise UsageError(
            "the MCP configuration ignores keys that the server's entry does not have",
            where=f"{where}, 'dualtune', 'ignore'",
            got=", ".join(missing),
            expected=f"some of {', '.join(entry)}",
            fix="correct the name",
        )
    return {key: value for key, value in entry.items() if key not in ignored}


def is_off(entry: Mapping[str, Any], where: str) -> bool:
    """Whether the server is not to be started.

    Raises:
        UsageError: when the entry says both.
    """
    switches = {key: read_value(entry, key, bool, on, where) == on for key, on in SWITCHES.items() if key in entry}
    if len(set(switches.values())) > 1:
        raise UsageError(
            "the server is switched on and off", where=where, got=", ".join(switches), fix="leave one of these keys"
        )
    return False in switches.values()


def read_host_keys(entry: Mapping[str, Any], where: str, has_timeout: bool) -> dict[str, Any]:
    """The fields of ``ServerConfig`` that keys of other hosts set.

    Args:
        entry: the server's entry.
        where: the entry, for messages.
        has_timeout: a timeout of ours goes before that of another host.

    Raises:
        UsageError: for a key that is not obeyed, or not clear.
    """
    if unknown := [key for key in entry if key not in KNOWN and (key, entry[key]) != ("trust", False)]:
        ways_out = dict.fromkeys(WAYS_OUT.get(key, IGNORE) for key in unknown)
        raise UsageError(
            "a server's entry has keys that are not obeyed here",
            where=where,
            got=", ".join(unknown),
            expected="keys that are obeyed, or only describe the server",
            fix="; ".join(ways_out),
        )
    included = [read_strings(entry, key, where) for key in INCLUDE if key in entry]
    chosen = [set(names) for names in included if "*" not in names]
    return {
        "exclude": _read_names(entry, EXCLUDE, where),
        "include": tuple(sorted(set.intersection(*chosen))) if chosen else None,
        "allow": _read_names(entry, ALLOW, where),
        **({} if has_timeout else {"timeout": _read_timeout(entry, where)}),
    }


def _read_names(entry: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    return tuple(name for key in keys for name in read_strings(entry, key, where))


def _read_timeout(entry: Mapping[str, Any], where: str) -> float | None:
    timeout: float | None = read_positive(entry, "timeout", None, where)
    if timeout is None or timeout < IN_SECONDS:
        return timeout
    if timeout < IN_MILLISECONDS:
        raise UsageError(
            "a timeout may be in seconds or in milliseconds",
            where=f"{where}, 'timeout'",
            got=timeout,
            expected=f"below {IN_SECONDS:,} (seconds), or {IN_MILLISECONDS:,} and more (milliseconds)",
            fix='write "timeout" in seconds under "dualtune"',
        )
    return timeout / 1000
