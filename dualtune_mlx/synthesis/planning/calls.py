"""Planned calls of tools: arguments that are valid and that the grammar can write, with the words of each value."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.synthesis.conversions import list_leaves, say
from dualtune_mlx.synthesis.planned_calls import PlannedCall, SaidValue
from dualtune_mlx.synthesis.planning.drawing import Chooser, Drawer
from dualtune_mlx.synthesis.planning.observed import find_observed
from dualtune_mlx.synthesis.planning.optional import OptionalPlan
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.tools.spelling import sort_by_schema

TRIES = 40
Values = Mapping[str, Sequence[Any]]
"""Values that servers really hold. A key is ``server/tool/path``, or a parameter's name in snake case."""


def plan_calls(
    tools: Sequence[Tool], counts: Sequence[int], rng: random.Random, values: Values | None = None, today: str = ""
) -> Iterator[PlannedCall]:
    """Plan calls of tools, in the order of the tools.

    Args:
        tools: the tools.
        counts: how many calls of each.
        rng: draws everything.
        values: values that servers really hold, which about half of the arguments have that there are some for.
        today: the date of the conversation (2026-11-30), which dates lie around; "" for none.

    Raises:
        ToolError: when a schema is invalid, uses what cannot be enforced, or no arguments were found that fit it.
    """
    for tool, count in zip(tools, counts, strict=True):
        planner = Planner(tool, rng, values or {}, today)
        for _ in range(count):
            yield planner.plan()


class Planner:
    """Plans the calls of one tool."""

    def __init__(self, tool: Tool, rng: random.Random, values: Values, today: str) -> None:
        self._tool, self._rng, self._today = tool, rng, today
        self._drawer = Drawer(tool, rng, today, partial(find_observed, values))
        needed = not tool.parameters.get("required")
        self._optional = OptionalPlan(rng, self._drawer.is_sayable, needed)

    def plan(self) -> PlannedCall:
        """The next call.

        Raises:
            ToolError: when no arguments are found that fit the schema and that the grammar can write.
        """
        problem = ""
        for number in range(TRIES):
            choose: Chooser = self._optional.choose if number < TRIES // 2 else lambda parameters: ()
            arguments = sort_by_schema(self._drawer.draw(choose), self._tool.parameters)
            try:
                check_arguments(arguments, self._tool)
            except ToolError as error:
                problem = str(error.got)
                continue
            problem = explain_unwritable(self._tool, arguments)
            if not problem:
                return self.word(arguments)
        raise ToolError(
            "no arguments were found that fit a tool's schema",
            where=f"{self._tool.server}/{self._tool.name}" if self._tool.server else self._tool.name,
            got=problem,
            fix="write requests for this tool by hand, or leave it out",
        )

    def word(self, arguments: Mapping[str, Any]) -> PlannedCall:
        """A call with these arguments, and with words for each value."""
        said = []
        for path, parameter, value in list_leaves(self._tool, arguments):
            words, conversion = say(parameter, value, self._rng, self._today)
            said.append(SaidValue(path, value, words, conversion))
        return PlannedCall(self._tool, arguments, tuple(said), self._today)
