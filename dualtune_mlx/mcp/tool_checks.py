"""Checks of a server's list of tools, which is data, and of what the configuration names in it.

A schema that lacks only its type is repaired.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import LONGEST_SHOWN, read_schema

MOST_TOOLS = 1_000
LONGEST_NAME = 128
LONGEST_DESCRIPTION = 20_000
LARGEST_SCHEMA = 200_000  # characters of JSON
DEEPEST_SCHEMA = 64


def repair_tool(tool: Any, server: str) -> dict[str, Any]:
    """Check a tool as the server listed it, and return it with a complete schema.

    Its output schema is left out: no result is held to it.

    Raises:
        ToolError: when it is beyond a limit, or has no valid schema.
    """
    name = tool.get("name") if isinstance(tool, dict) else None
    where = f"{server}/{_shorten(name)}"
    if not isinstance(tool, dict) or not isinstance(name, str):
        raise _tool_error("a server lists a tool without a name", where, _shorten(tool), "an object with a 'name'")
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        expected = f"1 to {LONGEST_NAME} printable characters"
        raise _tool_error("a tool's name cannot be used", where, f"{len(name)} characters", expected)
    _check_limit(where, "description", len(str(tool.get("description") or "")), LONGEST_DESCRIPTION, "characters")
    schema = tool.get("inputSchema")
    _check_limit(where, "schema", _count_levels(schema), DEEPEST_SCHEMA, "levels")
    _check_limit(where, "schema", len(json.dumps(schema)), LARGEST_SCHEMA, "characters")
    kept = {key: value for key, value in tool.items() if key != "outputSchema"}
    return {**kept, "inputSchema": read_schema(schema, where)}


def drop_duplicates(tools: Sequence[Tool], server: str) -> tuple[Tool, ...]:
    """Return the tools, each of them once.

    Raises:
        ToolError: when two different tools share a name, or there are too many tools.
    """
    _check_limit(server, "list of tools", len(tools), MOST_TOOLS, "tools")
    named: dict[str, Tool] = {}
    for tool in tools:
        if named.setdefault(tool.name, tool) != tool:
            raise _tool_error("a server lists two tools of one name", f"{server}/{tool.name}", None, "one tool a name")
    return tuple(named.values())


def check_configured_names(what: str, names: Iterable[str], known: Sequence[str], server: str) -> None:
    """Check that the server has what the configuration names.

    Args:
        what: what the names are, for the message.

    Raises:
        UsageError: with the unknown names and the known ones.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(
            f"the MCP configuration names {what} that the server does not have",
            where=f"server {server!r}",
            got=", ".join(unknown),
            expected=f"one of {', '.join(sorted(set(known)))}" if known else "none: the server has none",
            fix="correct the name in the server's 'dualtune' entry",
        )


def _check_limit(where: str, what: str, size: int, limit: int, unit: str) -> None:
    if size > limit:
        raise _tool_error(f"a {what} is beyond the limit", where, f"{size:,} {unit}", f"at most {limit:,}")


def _tool_error(what: str, where: str, got: object, expected: str) -> ToolError:
    fix = "exclude the tool in the MCP configuration ('dualtune': {'exclude': […]}), or report it to its authors"
    return ToolError(what, where=where, got=got, expected=expected, fix=fix)


def _shorten(value: Any) -> str:
    return value[:LONGEST_SHOWN] if isinstance(value, str) else type(value).__name__


def _count_levels(value: Any) -> int:
    """Count how many levels deep a JSON value is nested, without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [item for items in inner for item in items]
    return depth
