"""Planned calls of tools: arguments that are valid and that the grammar can write, with the words of each value."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from dualtune_mlx.errors import ToolError
from dualtune_mlx.grammar import explain_unwritable
from dualtune_mlx.synthesis.conversions import list_leaves, say
from dualtune_mlx.synthesis.conversions.texts import read_words, split_name
from dualtune_mlx.synthesis.planned_calls import PlannedCall, SaidValue
from dualtune_mlx.synthesis.planning.drawing import Chooser, Drawer
from dualtune_mlx.synthesis.planning.observed import find_observed
from dualtune_mlx.synthesis.planning.optional import OptionalPlan
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import Parameter
from dualtune_mlx.tools.schemas import check_arguments
from dualtune_mlx.tools.spelling import sort_by_schema
from dualtune_mlx.tools.time_limit import limited_time

TRIES = 40
LONGEST = 10.0
"""Seconds of computing for a call at most: a least number of items, on many levels, makes calls of any size."""
CHANGES = frozenset(read_words("update edit modify change set patch adjust resize format customize"))
"""Verbs of tools whose calls change something, and hence say what."""
BARE = frozenset(read_words("list get show read fetch view check count status info current describe close back stop"))
"""Words of tools that may be called without any argument."""
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
        self.tool, self._rng, self._today = tool, rng, today
        self._drawer = Drawer(tool, rng, today, partial(find_observed, values))
        words, required = split_name(tool.name), bool(tool.parameters.get("required"))
        may_be_bare = required or not BARE.isdisjoint(words)
        without = 0.5 + required / 2 if may_be_bare and CHANGES.isdisjoint(words[:2]) else 0
        self._optional = OptionalPlan(rng, self._drawer.is_sayable, without)

    def plan(self) -> PlannedCall:
        """The next call.

        Raises:
            ToolError: when no arguments are found that fit the schema and that the grammar can write.
        """
        problem = ""
        try:
            with limited_time(LONGEST):
                for number in range(TRIES):
                    choose: Chooser = self._optional.choose if number < TRIES // 2 else lambda parameters: ()
                    arguments = self._drawer.draw(choose)
                    problem = self._find_problem(arguments)
                    if not problem:
                        return self._word(arguments, {})
        except (TimeoutError, RecursionError):
            problem = "a schema whose smallest values are too large"
        raise ToolError(
            "no arguments were found that fit a tool's schema",
            where=self.tool.full_name,
            got=problem,
            fix="write requests for this tool by hand, or leave it out",
        )

    def plan_like(self, other: PlannedCall) -> PlannedCall:
        """The next call, with the values and words of another tool's call where both have a parameter of that name.

        Raises:
            ToolError: as ``plan`` does.
        """
        planned = self.plan()
        known = self.tool.parameters.get("properties", {})
        shared = {name: value for name, value in other.arguments.items() if name in known}
        return self.word_like({**planned.arguments, **shared}, other) or planned

    def word_like(self, arguments: Mapping[str, Any], other: PlannedCall) -> PlannedCall | None:
        """A call with these arguments, in the words of another one where they are the same; None if they do not fit."""
        if self._find_problem(arguments):
            return None
        return self._word(arguments, {(one.path, repr(one.value)): one for one in other.said})

    def _find_problem(self, arguments: Mapping[str, Any]) -> str:
        """What is the matter with arguments; "" where they fit the schema and the grammar can write them."""
        try:
            check_arguments(arguments, self.tool)
        except ToolError as error:
            return str(error.got)
        return explain_unwritable(self.tool, arguments)

    def _word(self, arguments: Mapping[str, Any], known: Mapping[tuple[str, str], SaidValue]) -> PlannedCall:
        """The arguments in the order of the schema, and words for each value: those that are known, or new ones."""
        arguments = sort_by_schema(arguments, self.tool.parameters)
        leaves = list_leaves(self.tool, arguments)
        said = (
            known.get((path, repr(value))) or self._say(path, parameter, value) for path, parameter, value in leaves
        )
        return PlannedCall(self.tool, arguments, tuple(said), self._today)

    def _say(self, path: str, parameter: Parameter, value: Any) -> SaidValue:
        return SaidValue(path, value, *say(parameter, value, self._rng, self._today))
