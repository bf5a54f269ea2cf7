"""The keys of a server's ``dualtune`` entry, which are ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

from dualtune_mlx.errors import UsageError
from dualtune_mlx.mcp.rules import read_rules
from dualtune_mlx.mcp.values import read_positive, read_strings, read_value
from dualtune_mlx.mcp.variables import Variables
from dualtune_mlx.tools import RESPOND

KEYS = (
    *("pinned", "exclude", "approve", "timeout", "start_timeout", "output_limit"),
    *("allow", "trust_hints", "trust_unhinted", "rules", "groups", "ignore"),
)
APPROVALS = ("auto", "ask", "never")
OUTPUT_LIMIT = 32 * 2**20


def read_own_keys(ours: Mapping[str, Any], where: str, variables: Variables) -> dict[str, Any]:
    """The fields of ``ServerConfig`` that the keys of ``dualtune`` set."""
    unknown = sorted(set(ours) - set(KEYS))
    if unknown:
        raise UsageError(
            "unknown keys in 'dualtune'",
            where=where,
            got=", ".join(unknown),
            expected=f"only {', '.join(KEYS)}",
            fix="remove or rename them",
        )
    approve = read_value(ours, "approve", str, "auto", where)
    if approve not in APPROVALS:
        raise UsageError("there is no such approval policy", where=where, got=approve, expected=", ".join(APPROVALS))
    return {
        "pinned": variables.expand_all(read_value(ours, "pinned", dict, {}, where), f"{where}, 'pinned'"),
        "exclude": read_strings(ours, "exclude", where),
        "approve": approve,
        "allow": read_strings(ours, "allow", where),
        "trust_hints": read_value(ours, "trust_hints", bool, False, where),
        "trust_unhinted": read_value(ours, "trust_unhinted", bool, False, where),
        "rules": read_rules(_expand_folders(read_value(ours, "rules", list, [], where), where, variables), where),
        "groups": _read_groups(ours, where),
        "ignore": read_strings(ours, "ignore", where),
        "timeout": read_positive(ours, "timeout", None, where),
        "start_timeout": read_positive(ours, "start_timeout", None, where),
        "output_limit": int(read_positive(ours, "output_limit", OUTPUT_LIMIT, where)),
    }


def _expand_folders(rules: list[Any], where: str, variables: Variables) -> list[Any]:
    """The rules, with the variables in their folders; a pattern may hold what looks like a variable."""
    return [
        {**rule, "below": variables.expand_all(rule["below"], f"{where}, 'rules'[{index}], 'below'")}
        if isinstance(rule, dict) and "below" in rule
        else rule
        for index, rule in enumerate(rules)
    ]


def _read_groups(ours: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    listed: dict[str, Any] = read_value(ours, "groups", dict, {}, where)
    where = f"{where}, 'groups'"
    groups = {name: read_strings(listed, name, where) for name in listed}
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
