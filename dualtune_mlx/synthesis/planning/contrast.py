"""Pairs of calls that are easily confused: of two close tools, or of one tool with one thing else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from dualtune_mlx.synthesis.descriptions import describe, list_choices
from dualtune_mlx.synthesis.planned_calls import PlannedCall
from dualtune_mlx.synthesis.planning.calls import Planner, Values
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.lexical import lexical_scores
from dualtune_mlx.tools.parameters import Parameter, list_parameters

CLOSE = 0.4
"""How well a tool's own name and description match another tool, as a part of how well they match itself."""
TRIES = 4


def find_confusable(tools: Sequence[Tool]) -> list[tuple[Tool, Tool]]:
    """Pairs of tools that are easily confused, by the words of their names, descriptions and parameters.

    The closest pair comes first.
    """
    closeness: dict[tuple[int, int], float] = {}
    for number, tool in enumerate(tools):
        scores = lexical_scores(f"{tool.name} {tool.description}", tools)
        for other, score in enumerate(scores):
            if other != number and scores[number] > 0:
                pair = (min(number, other), max(number, other))
                closeness[pair] = max(closeness.get(pair, 0.0), score / scores[number])
    close = sorted((pair for pair, share in closeness.items() if share >= CLOSE), key=lambda pair: -closeness[pair])
    return [(tools[first], tools[second]) for first, second in close]


def plan_contrasts(
    tools: Sequence[Tool], count: int, rng: random.Random, values: Values | None = None, today: str = ""
) -> Iterator[tuple[PlannedCall, PlannedCall]]:
    """Plan pairs of calls that have the same values as far as they can, to be worded alike.

    Half of the pairs are calls of two tools that are easily confused. The others are calls of one tool that differ in
    one thing: another choice, a boolean that is not so, the same value for another optional parameter.

    Args:
        tools: the tools.
        count: how many pairs, at most: there may be no such tools and parameters.
        rng: draws everything.
        values: values that servers really hold.
        today: the date of the conversation; "" for none.

    Raises:
        ToolError: as ``plan_calls`` does.
    """
    planners = [Planner(tool, rng, values or {}, today) for tool in tools]
    by_tool = {id(tool): planner for tool, planner in zip(tools, planners, strict=True)}
    pairs = find_confusable(tools)[: max(count, 1)]
    varied = [planner for planner in planners if _list_variable(planner.tool)]
    rng.shuffle(varied)
    between = count - count // 2 if varied else count
    if pairs:
        for first, second in islice(cycle(pairs), between):
            planned = by_tool[id(first)].plan()
            yield planned, by_tool[id(second)].plan_like(planned)
    if varied:
        for planner in islice(cycle(varied), count - between if pairs else count):
            yield from _plan_variants(planner, rng)


def _plan_variants(planner: Planner, rng: random.Random) -> Iterator[tuple[PlannedCall, PlannedCall]]:
    """A pair of calls of one tool, if one is found in a few tries."""
    for _ in range(TRIES):
        planned = planner.plan()
        variants = list(_list_variants(planned))
        rng.shuffle(variants)
        found = next((other for one in variants if (other := planner.word_like(one, planned))), None)
        if found:
            yield planned, found
            return


def _list_variants(planned: PlannedCall) -> Iterator[dict[str, Any]]:
    """The arguments of a call with one thing else: they may not fit the schema."""
    arguments = planned.arguments
    parameters = {one.path: one for one in _list_variable(planned.tool)}
    for path, parameter in parameters.items():
        value = arguments.get(path)
        if isinstance(value, bool):
            yield {**arguments, path: not value}
        elif path in arguments:
            yield from ({**arguments, path: other} for other in list_choices(parameter) if other != value)
            rest = {name: item for name, item in arguments.items() if name != path}
            yield from (
                {**rest, other.path: value}
                for other in parameters.values()
                if not (parameter.required or other.required or other.path in arguments) and _is_alike(parameter, other)
            )


def _list_variable(tool: Tool) -> list[Parameter]:
    """The parameters of the tool itself that are chosen from, or that have others like them."""
    own = [describe(tool, one) for one in list_parameters(tool) if not set(".[") & set(one.path)]
    return [
        one
        for one in own
        if list_choices(one)
        or _list_types(one) == {"boolean"}
        or any(other is not one and not other.required and _is_alike(one, other) for other in own)
    ]


def _is_alike(first: Parameter, second: Parameter) -> bool:
    """Whether two parameters take values of the same type, none of them a choice."""
    kinds = _list_types(first)
    return bool(kinds & {"string", "integer", "number"}) and kinds == _list_types(second) and not list_choices(second)


def _list_types(parameter: Parameter) -> set[str]:
    types = (schema.get("type") for schema in parameter.alternatives)
    return {one for one in types if isinstance(one, str) and one != "null"}
