"""Tools that belong together, with requests for them: what every source of the start adapters' data makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualtune_mlx.errors import DataError, ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments


@dataclass(frozen=True)
class LabelledRequest:
    """A request and the right call for it."""

    text: str
    """What the user says."""
    tool: str = ""
    """The name of the right tool; "" where none of the domain serves the request."""
    arguments: Mapping[str, Any] | None = None
    """The right arguments; None where the source does not know them."""
    today: str = ""
    """The date of the conversation; "" for none."""


@dataclass(frozen=True)
class Domain:
    """Tools of one server, field or topic, and requests for them."""

    source: str
    """Where it is from: ``corpus``, ``seal_tools``, …"""
    name: str
    """Its name within the source."""
    tools: tuple[Tool, ...]
    """Tools with different names."""
    requests: tuple[LabelledRequest, ...]
    """Requests for some of these tools, and such that none of them serves."""


def keep_usable(domain: Domain) -> Domain:
    """The domain without the requests whose arguments do not fit their tool, or could not be written."""
    tools = {tool.name: tool for tool in domain.tools}
    return replace(domain, requests=tuple(one for one in domain.requests if _is_usable(one, tools)))


def _is_usable(request: LabelledRequest, tools: Mapping[str, Tool]) -> bool:
    if not request.tool or request.arguments is None:
        return not request.tool or request.tool in tools
    return request.tool in tools and can_be_called(tools[request.tool], request.arguments)


def can_be_called(tool: Tool, arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments fit the tool, and could be written."""
    try:
        check_arguments(arguments, tool)
        return not explain_unwritable(tool, arguments)
    except (DataError, ToolError):
        return False


def requests_by_tool(domain: Domain) -> dict[str, Sequence[LabelledRequest]]:
    """The requests of each tool; those that no tool serves stand under ""."""
    found: dict[str, list[LabelledRequest]] = {}
    for request in domain.requests:
        found.setdefault(request.tool, []).append(request)
    return dict(found)
