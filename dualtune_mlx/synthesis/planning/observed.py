"""Values that servers really hold, for a parameter that may have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualtune_mlx.synthesis.conversions.texts import split_name
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter

TYPES: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}


def find_observed(values: Mapping[str, Sequence[Any]], tool: Tool, parameter: Parameter) -> list[Any]:
    """The values for a parameter: those of its own place, else of its name, else of the last word of its name.

    Args:
        values: values by ``server/tool/path``, or by a name in snake case (``sheet_name``, ``owner``).
        tool: the tool.
        parameter: its parameter.
    """
    words = split_name(parameter.path.removesuffix("[]").rpartition(".")[2])
    keys = (f"{tool.server}/{tool.name}/{parameter.path}", "_".join(words), *words[-1:])
    found = next((values[key] for key in keys if values.get(key)), ())
    types = tuple(kind for schema in parameter.alternatives for kind in TYPES.get(str(schema.get("type")), ()))
    return [value for value in found if isinstance(value, types) and not isinstance(value, bool)]
