"""Right calls that an engine could never write, whatever its adapters learned."""

from __future__ import annotations

from dataclasses import replace

from dualtune_mlx.data.decisions import Decision
from dualtune_mlx.decoding import find_unsaid, ground_schema
from dualtune_mlx.engine import DualTune
from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments

NO_COPY = "it is no copy from the conversation, to which grounding holds it"


def explain_gold(dualtune: DualTune, decision: Decision, tool: Tool) -> str:
    """Why the engine cannot write the right arguments; "" where it can.

    Either the grammar of the tool's schema does not allow them, or a string that is held to spans of the conversation
    is none of these.
    """
    arguments = decision.call.arguments
    try:
        reason = explain_unwritable(tool, arguments)
    except ToolError as error:
        return f"{error.what}: {error.got}"
    kind = dualtune.decoding.grounding
    if reason or kind not in ("data", "strict") or not tool.takes_arguments:
        return reason
    if kind == "strict":
        unsaid = find_unsaid(arguments, tool, decision.messages, formed=False)
        return f"$.{unsaid[0]}: {NO_COPY}" if unsaid else ""
    held = ground_schema(tool, decision.messages, dualtune.stage("arguments", tool).grounding)
    try:
        check_arguments(arguments, replace(tool, parameters=held))
    except ToolError as error:
        place = str(error.where).rpartition(" at ")[2]
        return f"{place}: {NO_COPY}"
    return ""
