"""Rules for arguments, from the configuration: forbidden, held to a pattern, or to paths below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.tools import Tool

KINDS = ("below", "pattern", "forbidden")
EXAMPLE = '{"arguments": ["path"], "below": "/work"}, {"arguments": ["branch"], "pattern": "feature/.*"}'


@dataclass(frozen=True)
class Rule:
    """What some arguments of some tools (of all, without names) may be.

    ``below``: paths, and lists of paths, that are this folder or lie in it, links followed; ``pattern``: text, numbers
    and lists of them that are matched whole; ``forbidden``: nothing at all.
    """

    arguments: tuple[str, ...]
    tools: tuple[str, ...] = ()
    below: str | None = None
    pattern: str | None = None
    forbidden: bool = False

    def holds_for(self, tool: Tool) -> bool:
        return not self.tools or tool.name in self.tools


def read_rules(listed: Sequence[Any], where: str) -> tuple[Rule, ...]:
    """The rules of a server's ``dualtune`` entry.

    Raises:
        UsageError: when one is none.
    """
    return tuple(_rule(entry, f"{where}, 'rules'[{index}]") for index, entry in enumerate(listed))


def forbidden(rules: Sequence[Rule], tool: Tool) -> set[str]:
    """The arguments that a model is not even shown."""
    return {name for rule in rules if rule.forbidden and rule.holds_for(tool) for name in rule.arguments}


def check_rules(arguments: Mapping[str, Any], tool: Tool, rules: Sequence[Rule], folder: str | None) -> None:
    """Hold a call's arguments, the pinned ones too, to the rules.

    Args:
        folder: what the server's relative paths begin at; None where that is not known.

    Raises:
        ToolError: naming the argument and the rule.
    """
    for rule in rules:
        for name in rule.arguments if rule.holds_for(tool) else ():
            if name in arguments and (expected := _broken(arguments[name], rule, folder)):
                raise ToolError(
                    f"the configuration does not allow this {name!r}",
                    where=f"{tool.server}/{tool.name}",
                    got=repr(arguments[name])[:200],
                    expected=expected,
                    fix="change the request, or the server's 'rules' in the MCP configuration",
                )


def _broken(value: Any, rule: Rule, folder: str | None) -> str | None:
    """What a value should be that breaks a rule."""
    if rule.forbidden:
        return "a call without it"
    values = value if isinstance(value, list) else [value]
    if rule.pattern is not None:
        fine = all(isinstance(one, str | int | float) and re.fullmatch(rule.pattern, str(one)) for one in values)
        return None if fine else f"text that matches {rule.pattern}"
    assert rule.below is not None
    fine = all(isinstance(one, str) and _is_below(one, rule.below, folder) for one in values)
    return None if fine else f"a path below {rule.below}"


def _is_below(path: str, top: str, folder: str | None) -> bool:
    """Whether a server that resolves the path cannot leave ``top``: what some servers read otherwise is refused."""
    if not path or path.startswith("~") or "\0" in path or re.match(r"\w+:", path):
        return False
    if not os.path.isabs(path):
        if folder is None:
            return False
        path = os.path.join(folder, path)
    # Both readings of "..": behind a link, as the system takes it, and as text, as many servers do.
    return all(
        Path(os.path.realpath(one)).is_relative_to(os.path.realpath(top)) for one in (path, os.path.normpath(path))
    )


def _rule(entry: Any, where: str) -> Rule:
    unknown = sorted(set(entry) - {"arguments", "tools", *KINDS}) if isinstance(entry, dict) else []
    if not isinstance(entry, dict) or unknown or len([kind for kind in KINDS if kind in entry]) != 1:
        raise _refused(
            where, ", ".join(unknown or map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        )
    for key, is_right in {
        "below": _is_folder,
        "pattern": _is_pattern,
        "forbidden": lambda value: value is True,
    }.items():
        if key in entry and not is_right(entry[key]):
            raise _refused(f"{where}, {key!r}", entry[key])
    arguments, tools = _names(entry, "arguments", where), _names(entry, "tools", where)
    if not arguments:
        raise _refused(where, "no 'arguments'")
    return Rule(arguments, tools, entry.get("below"), entry.get("pattern"), entry.get("forbidden", False))


def _names(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    listed = entry.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise _refused(f"{where}, {key!r}", listed)
    return tuple(listed)


def _is_folder(value: Any) -> bool:
    return isinstance(value, str) and os.path.isabs(value)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _refused(where: str, got: object) -> UsageError:
    return UsageError(
        "a rule for arguments cannot be used",
        where=where,
        got=got,
        expected="'arguments', optional 'tools', and one of 'below' (an absolute folder), 'pattern', 'forbidden': true",
        fix=f"write it as {EXAMPLE}",
    )
