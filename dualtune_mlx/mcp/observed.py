"""What servers really hold: names, ids and paths in the results of tools that only read.

Results are data that somebody else wrote. What looks like a secret, lies in a home folder, or is no short line of plain
text is left out; the rest are values of arguments and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualtune_mlx.data.secrets import find_home_paths, find_secrets
from dualtune_mlx.mcp.observed_fields import Field, find_fields, match_parameter, name_keys
from dualtune_mlx.mcp.results import ToolResult
from dualtune_mlx.mcp.secrets import SHORTEST, Secrets
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import list_parameters

LONGEST = 80
"""Characters of a value."""
MOST = 50
"""Values of a parameter, or of a name."""
LARGEST = 200_000
"""Characters of a result that are looked at."""


@dataclass(frozen=True)
class ObservedValues:
    """What results hold."""

    values: Mapping[str, Sequence[Any]]
    """The values by ``server/tool/path`` of the parameters that they fit, and by names in snake case."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many others there were, by the reason."""


def find_values(tools: Sequence[Tool], results: Iterable[ToolResult], secrets: Secrets = ()) -> ObservedValues:
    """Find the values of parameters in the results of calls.

    Args:
        tools: the tools whose parameters may have the values.
        results: what calls have answered.
        secrets: secrets of the configuration, which are no values.
    """
    kept: dict[tuple[Field, type, Any], None] = {}
    left_out: dict[str, int] = {}
    for result in results:
        for place, value in _read_result(result):
            if reason := explain_left_out(value, secrets):
                left_out[reason] = left_out.get(reason, 0) + 1
            else:
                kept[place, type(value), value] = None
    values: dict[str, list[Any]] = {}
    for place, _, value in kept:
        for key in (*_list_places(tools, place, value), *name_keys(place)):
            found = values.setdefault(key, [])
            if value not in found and len(found) < MOST:
                found.append(value)
    return ObservedValues(values, left_out)


def explain_left_out(value: str | int, secrets: Secrets = ()) -> str:
    """Why something in a result is no value; "" where it is one."""
    text = str(value)
    if not 0 < len(text) <= LONGEST:
        return "empty and long texts"
    if not text.isprintable() or text != text.strip() or "<|" in text:
        return "texts that are not plain"
    if any(True for _ in find_secrets(text)) or any(len(one) >= SHORTEST and one in text for _, one in secrets):
        return "secrets"
    in_home = any(True for _ in find_home_paths(text)) or str(Path.home()) in text
    return "paths in home folders" if in_home else ""


def _read_result(result: ToolResult) -> Iterator[tuple[Field, Any]]:
    if result.is_error or len(result.text) > LARGEST:
        return
    content: Any = result.structured
    if content is None:
        try:
            content = json.loads(result.text)
        except (ValueError, RecursionError):
            content = result.text
    yield from find_fields(result.server, result.tool, content)


def _list_places(tools: Sequence[Tool], place: Field, value: Any) -> Iterator[str]:
    for tool in tools:
        for parameter in list_parameters(tool) if tool.server == place.server else ():
            if match_parameter(tool, parameter, place, value):
                yield f"{tool.server}/{tool.name}/{parameter.path}"
