"""Checks of a tool as its server lists it, which is data, and of what the configuration names.

A schema that lacks only its type is repaired.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dualtune_mlx.errors import ToolError, UsageError
from dualtune_mlx.mcp.config import ServerConfig
from dualtune_mlx.mcp.schema_size import count_applied
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import LONGEST_SHOWN, read_schema

LONGEST_NAME = 128
LONGEST_DESCRIPTION = 20_000
LARGEST_SCHEMA = 200_000  # characters of JSON
DEEPEST_SCHEMA = 64
MOST_APPLIED = 10_000  # subschemas that a value is held to at once


def read_tool(listed: Any, config: ServerConfig) -> Tool:
    """Read a tool as its server lists it: name, description, schema and hints. Nothing else of it is looked at.

    Raises:
        ToolError: when it is beyond a limit, or has no valid schema.
    """
    name = listed.get("name") if isinstance(listed, dict) else None
    where = f"{config.name}/{show_name(name)}"
    if not isinstance(listed, dict) or not isinstance(name, str):
        raise tool_error("a server lists a tool without a name", where, show_name(listed), "an object with a 'name'")
    if not len(name) <= LONGEST_NAME or not name.strip() or not name.isprintable():
        expected = f"1 to {LONGEST_NAME} printable characters, not spaces alone"
        raise tool_error("a tool's name cannot be used", where, f"{len(name)} characters", expected)
    description, schema = listed.get("description"), listed.get("inputSchema")
    if not isinstance(description, str | None):
        raise tool_error("a tool's description is not text", where, type(description).__name__, "a string")
    check_limit(where, "description", len(description or ""), LONGEST_DESCRIPTION, "characters")
    check_limit(where, "schema", _count_levels(schema), DEEPEST_SCHEMA, "levels")
    hints, parameters = _read_hints(listed.get("annotations")), read_schema(schema, where)
    check_limit(where, "schema", len(json.dumps(schema)), LARGEST_SCHEMA, "characters")
    try:
        applied = count_applied(parameters)
    except RecursionError:
        raise tool_error("a schema's references lead too far", where, None, "fewer of them behind each other") from None
    check_limit(where, "schema", applied, MOST_APPLIED, "subschemas of one value")
    return Tool(name, description or "", parameters, config.name, hints, config.group_of(name))


def _read_hints(annotations: Any) -> Mapping[str, Any]:
    """The hints as they are. What is no object of hints stands for the one that makes a tool destructive."""
    if isinstance(annotations, dict):
        return {name: hint for name, hint in annotations.items() if hint is not None}
    return {} if annotations is None else {"destructiveHint": annotations}


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
            fix="correct the name in the server's entry in the MCP configuration",
        )


def check_limit(where: str, what: str, size: int, limit: int, unit: str) -> None:
    """Check a size that a server decides.

    Raises:
        ToolError: when it is beyond the limit.
    """
    if size > limit:
        raise tool_error(f"a {what} is beyond the limit", where, f"{size:,} {unit}", f"at most {limit:,}")


def tool_error(what: str, where: str, got: object, expected: str) -> ToolError:
    """The error of a tool that cannot be used, with the way out."""
    fix = "exclude the tool in the MCP configuration ('dualtune': {'exclude': […]}), or report it to its authors"
    return ToolError(what, where=where, got=got, expected=expected, fix=fix)


def show_name(name: Any) -> str:
    """A name that a server chose, as messages show it: cut, and without control characters."""
    if not isinstance(name, str):
        return type(name).__name__
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in name[:LONGEST_SHOWN])


def _count_levels(value: Any) -> int:
    """Count how many levels deep a JSON value is nested, without recursion."""
    level, depth = [value], 0
    while level:
        depth += 1
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [item for items in inner for item in items]
    return depth
