"""How a server is reached, as its entry in the configuration says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from dualtune_mlx.addresses import is_confidential
from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp.config_file import EXAMPLE
from dualtune_mlx.mcp.values import check_type, read_strings, read_value
from dualtune_mlx.mcp.variables import Variables, check_form

COMMAND, URL = ("command",), ("url", "serverUrl", "httpUrl")
TYPES = {
    **dict.fromkeys(("stdio", "local"), COMMAND),
    **dict.fromkeys(("http", "streamable-http", "streamableHttp", "streamable_http"), URL),
}
SECRET_HEADER = re.compile("auth|cookie|credential|key|passw|secret|session|token", re.IGNORECASE)
"""Headers that are there to hold a secret: Authorization, Cookie, X-API-Key, …"""
KEYS = {COMMAND: ("args", "env", "cwd"), URL: ("headers",)}
"""The keys that belong to each way."""


def read_address(entry: Mapping[str, Any], where: str, variables: Variables) -> dict[str, Any]:
    """The fields of ``ServerConfig`` that say how the server is reached.

    Raises:
        UsageError: when the entry says it in no way, in a wrong one, or in several.
    """
    key, way = _find_way(entry, where)
    if others := [one for keys in KEYS.values() if keys != KEYS[way] for one in keys if entry.get(one)]:
        raise UsageError(
            f"a server that is reached by its {key!r} takes no {' or '.join(map(repr, others))}",
            where=where,
            got=", ".join([key, *others]),
            expected=f"{key} with {', '.join(KEYS[way])}",
            fix="remove what is meant for another way",
        )
    target = variables.expand(read_value(entry, key, str, "", where), f"{where}, {key!r}")
    if way == URL:
        _check_url(target, where)
        headers = _read_headers(entry, where, variables)
        _check_confidential(target, headers, where)
        return {"url": target, "headers": headers}
    cwd = read_value(entry, "cwd", str, None, where)
    return {
        "command": target,
        "args": tuple(variables.expand(text, f"{where}, 'args'") for text in read_strings(entry, "args", where)),
        "env": _read_texts(entry, "env", where, variables),
        "cwd": cwd and variables.expand(cwd, f"{where}, 'cwd'"),
    }


def _find_way(entry: Mapping[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
    """The key that has the server's address, and the keys of its kind."""
    given = [key for key in (*COMMAND, *URL) if entry.get(key)]
    kind = read_value(entry, "type", str, "stdio" if given[:1] == ["command"] else "http" if given else "", where)
    if kind and kind not in TYPES:
        raise UsageError(
            f"the server is reached by {kind!r}, which is not supported",
            where=where,
            got=f"'type': {kind!r}",
            expected=" or ".join(TYPES),
            fix='use another form of the server, or set "disabled": true',
        )
    way = TYPES.get(kind, COMMAND)
    if len(given) != 1 or given[0] not in way:
        raise UsageError(
            "the server has several addresses" if len(given) > 1 else f"the server has no {way[0]}",
            where=where,
            got=f"keys {sorted(entry)}",
            expected="'command', a program to run, or 'url', an address",
            fix="remove all but one of them" if len(given) > 1 else f"write it as {EXAMPLE}",
        )
    return given[0], way


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


def _check_confidential(url: str, headers: Mapping[str, str], where: str) -> None:
    """Refuse to send a secret where everybody on the way can read it."""
    parts = urlsplit(url)
    secret = [f"the header {name!r}" for name in headers if SECRET_HEADER.search(name)]
    secret += ["a password in the 'url'"] if "@" in parts.netloc else []
    if secret and not is_confidential(parts):
        raise UsageError(
            "a secret is not sent without encryption",
            where=where,
            got=f"{', '.join(secret)}, to {parts.hostname} over plain http",
            expected="https, or this machine",
            fix="write 'https://', or lead a tunnel to this machine and name its end here",
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
    texts: dict[str, Any] = read_value(entry, key, dict, {}, where)
    for name, value in texts.items():
        check_type(value, str, f"{where}, {key!r}, {name!r}", "a string")
        check_form(value, f"{where}, {key!r}, {name!r}")
    return {name: variables.expand(value, f"{where}, {key!r}, {name!r}") for name, value in texts.items()}
