"""Labels: the names of tools in a prompt, by which a model tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dualtune_mlx.errors import ToolError
from dualtune_mlx.tools.types import RESPOND, Tool


def label_tools(tools: Sequence[Tool]) -> dict[str, Tool]:
    """The tools by their labels.

    A tool's label is its own name. It is ``server/name`` where tools of several servers have the same name, and where
    the name is ``respond``, which is the label of the answer in words.

    Raises:
        ToolError: when two tools have the same label, or a tool without a server is called ``respond``.
    """
    counts = Counter([RESPOND.name, *(tool.name for tool in tools)])
    labelled: dict[str, Tool] = {}
    for tool in tools:
        label = tool.name if counts[tool.name] == 1 else f"{tool.server}/{tool.name}"
        if tool.name == RESPOND.name and not tool.server:
            raise ToolError(
                f"a tool without a server is called {RESPOND.name!r}, as is the answer in words",
                where=f"tool {tool.name!r}",
                expected="a tool of a server, which is called server/name",
                fix='write its "server" beside it, or leave the tool out',
            )
        if label in labelled:
            raise ToolError(
                "two tools have the same name",
                where=f"server {tool.server!r}",
                got=label,
                fix="exclude one of them, or give the servers different names",
            )
        labelled[label] = tool
    return labelled


def label_choices(tools: Sequence[Tool]) -> dict[str, Tool]:
    """Everything that can be chosen, by its label: the tools, and ``respond``.

    Raises:
        ToolError: as ``label_tools`` does.
    """
    return {**label_tools(tools), RESPOND.name: RESPOND}
