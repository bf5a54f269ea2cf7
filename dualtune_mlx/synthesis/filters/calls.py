"""Filters of a request's calls: they fit their tools' schemas, and the grammar can write them."""

from __future__ import annotations

from collections.abc import Sequence

from dualtune_mlx.errors import DualTuneError
from dualtune_mlx.grammar.writable import explain_unwritable
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool, find_called_tool
from dualtune_mlx.tools.schemas import check_arguments


def explain_invalid(request: WordedRequest, tools: Sequence[Tool], _: str) -> str:
    """Why the request is no valid line of data: a call that fits no tool, or a subtask in other words."""
    if request.subtasks and len(request.subtasks) != len(request.calls):
        return f"{len(request.subtasks)} subtasks for {len(request.calls)} calls"
    try:
        request.to_trajectory(tools)
        for call in request.calls:
            check_arguments(call.arguments, find_called_tool(call, tools))
    except DualTuneError as error:
        return " ".join(str(error).split())
    missing = [subtask for subtask in request.subtasks if subtask not in request.text]
    return f"the request does not hold the words of a subtask: {missing[0]!r}" if missing else ""


def explain_unwritable_calls(request: WordedRequest, tools: Sequence[Tool], _: str) -> str:
    """Why the grammar cannot write one of the calls."""
    for call in request.calls:
        if detail := explain_unwritable(find_called_tool(call, tools), call.arguments):
            return f"{call.name}: {detail}"
    return ""
