"""What a tool's schema says of its parameters, and decoding does not hold them to."""

from __future__ import annotations

from dualtune_mlx.grammar.keywords import FORMATS
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import list_parameters


def list_unheld_formats(tool: Tool) -> dict[str, str]:
    """The formats that are not written, by the paths of their parameters, whose values may so have any form.

    Raises:
        ToolError: when the schema is not a valid JSON Schema.
    """
    return {
        parameter.path: str(schema["format"])
        for parameter in list_parameters(tool)
        for schema in parameter.alternatives
        if schema.get("format", "date") not in FORMATS and not {"enum", "const"} & schema.keys()
    }
