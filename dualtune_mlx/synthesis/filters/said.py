"""The filter of values: each stands in the request, or a named conversion leads from its words to it."""

from __future__ import annotations

from collections.abc import Sequence

from dualtune_mlx.synthesis.conversions import find_said, list_leaves
from dualtune_mlx.synthesis.filters.language import ENGLISH
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool, find_called_tool
from dualtune_mlx.tools.parameters import Parameter


def explain_unsaid(request: WordedRequest, tools: Sequence[Tool], language: str) -> str:
    """The values of the request's calls that it does not say.

    In another language than English, choices and switches are left to the teacher: the words for them are English here.
    """
    missing = [
        path
        for call in request.calls
        for path, parameter, value in list_leaves(find_called_tool(call, tools), call.arguments)
        if not (language != ENGLISH and _is_choice(parameter, value))
        and not find_said(parameter, value, request.text, request.today)
    ]
    return f"not said: {', '.join(missing)}" if missing else ""


def _is_choice(parameter: Parameter, value: object) -> bool:
    return isinstance(value, bool) or any("enum" in one for one in parameter.alternatives)
