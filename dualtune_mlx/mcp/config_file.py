"""The text of a configuration file: JSON, with the comments and trailing commas that editors allow in theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dualtune_mlx.errors import DataError, UsageError
from dualtune_mlx.files import load_json, read_text
from dualtune_mlx.mcp.values import name_type

EXAMPLE = '{"mcpServers": {"time": {"command": "mcp-server-time", "args": []}}}'
STRING = r'"(?:[^"\\\n]|\\.)*+"'
COMMENTS = re.compile(rf"({STRING})|//[^\n]*|/\*.*?\*/", re.DOTALL)
TRAILING_COMMAS = re.compile(rf"({STRING})|(?<![\[{{,:\s])\s*,(?=\s*[\]}}])")


def read_config_file(path: Path) -> dict[str, Any]:
    """The JSON object in a configuration file.

    Raises:
        UsageError: when the file cannot be read, or is not such JSON.
    """
    try:
        value = load_json(to_plain_json(read_text(path)))
    except (UsageError, DataError) as error:
        raise UsageError(
            "the MCP configuration cannot be read",
            where=error.where,
            got=error.got,
            expected=error.expected,
            fix=error.fix,
        ) from error
    except (ValueError, RecursionError) as error:
        at = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(
            "the MCP configuration is not JSON",
            where=f"{path}{at}",
            got=error.msg if isinstance(error, json.JSONDecodeError) else error,
            expected=EXAMPLE,
            fix="mend the JSON at that place",
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            "the MCP configuration is not a JSON object", where=path, got=name_type(value), expected=EXAMPLE
        )
    return value


def to_plain_json(text: str) -> str:
    """The text without comments and trailing commas. Spaces stand in their place, so that every error has its place."""
    return TRAILING_COMMAS.sub(_blank, COMMENTS.sub(_blank, text))


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[1] else re.sub(r"[^\n]", " ", found[0])
