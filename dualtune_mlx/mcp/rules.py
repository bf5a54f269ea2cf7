"""Rules of the configuration for arguments: forbidden, matching a pattern, or paths below a folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.tools import Tool

URL = re.compile(r"\w+:")
KINDS = ("below", "pattern", "forbidden")
EXAMPLE = '{"arguments": ["path"], "below": "/work"}, {"arguments": ["branch"], "pattern": "feature/.*"}'


@dataclass(frozen=True)
class Rule:
    """What some arguments of some tools may be."""

    arguments: tuple[str, ...]
    """The names of the arguments."""
    tools: tuple[str, ...] = ()
    """The names of the tools; empty: all tools."""
    below: str | None = None
    """A folder. A value is an absolute path, or a list of such, in it or of it; links are followed."""
    pattern: str | None = None
    """A regular expression. It matches a text or number, or each one of a list, from end to end."""
    forbidden: bool = False
    """The arguments may not be given."""

    def applies_to(self, tool: Tool) -> bool:
        return not self.tools or tool.name in self.tools


def read_rules(listed: Sequence[Any], where: str) -> tuple[Rule, ...]:
    """Read the rules of a server's ``dualtune`` entry.

    Raises:
        UsageError: when an entry is no rule.
    """
    return tuple(_read_rule(entry, f"{where}, 'rules'[{index}]") for index, entry in enumerate(listed))


def forbidden_arguments(rules: Sequence[Rule], tool: Tool) -> set[str]:
    """The names of the arguments that the rules forbid; a model is not shown them."""
    return {name for rule in rules if rule.forbidden and rule.applies_to(tool) for name in rule.arguments}


def make_absolute(arguments: Mapping[str, Any], tool: Tool, rules: Sequence[Rule], folder: str) -> dict[str, Any]:
    """The arguments with absolute paths, where a rule has them below a folder.

    Each server takes a relative path from a folder of its own choice, an absolute one is the same for all. A path that
    is not clear stays as it is, and is refused by the rule.

    Args:
        folder: where relative paths begin.
    """
    ruled = {name for rule in rules if rule.below and rule.applies_to(tool) for name in rule.arguments}
    return {name: _join(folder, value) if name in ruled else value for name, value in arguments.items()}


def _join(folder: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_join(folder, one) for one in value]
    return os.path.join(folder, value) if isinstance(value, str) and _is_clear(value) else value


def check_rules(arguments: Mapping[str, Any], tool: Tool, rules: Sequence[Rule]) -> None:
    """Check a call's arguments, the pinned ones too, against the rules.

    Raises:
        ToolError: naming the argument and the rule.
    """
    for rule in rules:
        for name in rule.arguments if rule.applies_to(tool) else ():
            if name in arguments and (expected := _describe_expected(arguments[name], rule)):
                raise ToolError(
                    f"the configuration does not allow this {name!r}",
                    where=f"{tool.server}/{tool.name}",
                    got=repr(arguments[name])[:200],
                    expected=expected,
                    fix="change the request, or the server's 'rules' in the MCP configuration",
                )


def _describe_expected(value: Any, rule: Rule) -> str | None:
    """What the rule expects instead of the value; None where the value keeps the rule."""
    if rule.forbidden:
        return "a call without it"
    values = value if isinstance(value, list) else [value]
    if rule.pattern is not None:
        fine = all(isinstance(one, str | int | float) and re.fullmatch(rule.pattern, str(one)) for one in values)
        return None if fine else f"text that matches {rule.pattern}"
    assert rule.below is not None
    fine = all(isinstance(one, str) and _is_below(one, rule.below) for one in values)
    return None if fine else f"an absolute path below {rule.below}"


def _is_clear(path: str) -> bool:
    """Whether all servers take a path for the same text: many expand ``~`` and URLs, and cut blanks and quotes off."""
    return (
        path == path.strip(" \t\r\n\"'") != "" and not path.startswith("~") and "\0" not in path and not URL.match(path)
    )


def _is_below(path: str, top: str) -> bool:
    """Whether the path stays in ``top`` however a server reads it. An unclear or a relative path does not."""
    if not _is_clear(path) or not os.path.isabs(path):
        return False
    # Both readings of "..": behind a link, as the system takes it, and as text, as many servers do.
    places = _find_places(path) | _find_places(os.path.normpath(path))
    return all(_is_in(Path(place), Path(os.path.realpath(top))) for place in places)


def _is_in(place: Path, folder: Path) -> bool:
    """Whether a place is a folder or in it, also where the file system knows the folder by another spelling."""
    if place.is_relative_to(folder):
        return True
    return folder.exists() and any(one.exists() and one.samefile(folder) for one in (place, *place.parents))


def _find_places(path: str) -> set[str]:
    """Where an absolute path may lead, links followed: servers and file systems also find a name whose letters are
    composed otherwise (``é`` as one character or as two)."""
    places = {os.sep}
    for part in path.split(os.sep):
        places = {os.path.realpath(os.path.join(at, name)) for at in places for name in _find_names(at, part)}
    return places


def _find_names(folder: str, name: str) -> set[str]:
    try:
        listed = os.listdir(folder)
    except OSError:  # no folder, or one that is not ours to list
        listed = []
    composed = unicodedata.normalize("NFC", name)
    return {name, *(one for one in listed if unicodedata.normalize("NFC", one) == composed)}


def _read_rule(entry: Any, where: str) -> Rule:
    unknown = sorted(set(entry) - {"arguments", "tools", *KINDS}) if isinstance(entry, dict) else []
    if not isinstance(entry, dict) or unknown or len([kind for kind in KINDS if kind in entry]) != 1:
        raise _rule_error(
            where, ", ".join(unknown or map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        )
    for key, is_right in {
        "below": _is_folder,
        "pattern": _is_pattern,
        "forbidden": lambda value: value is True,
    }.items():
        if key in entry and not is_right(entry[key]):
            raise _rule_error(f"{where}, {key!r}", entry[key])
    arguments, tools = _read_names(entry, "arguments", where), _read_names(entry, "tools", where)
    if not arguments:
        raise _rule_error(where, "no 'arguments'")
    return Rule(arguments, tools, entry.get("below"), entry.get("pattern"), entry.get("forbidden", False))


def _read_names(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    listed = entry.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise _rule_error(f"{where}, {key!r}", listed)
    return tuple(listed)


def _is_folder(value: Any) -> bool:
    return isinstance(value, str) and os.path.isabs(value)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _rule_error(where: str, got: object) -> UsageError:
    return UsageError(
        "a rule for arguments cannot be used",
        where=where,
        got=got,
        expected="'arguments', optional 'tools', and one of 'below' (an absolute folder), 'pattern', 'forbidden': true",
        fix=f"write it as {EXAMPLE}",
    )
