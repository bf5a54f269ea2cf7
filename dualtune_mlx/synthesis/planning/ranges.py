"""Ranges: two arguments of which one is the lower end and the other the upper one."""

from __future__ import annotations

from typing import Any

from dualtune_mlx.synthesis.conversions.texts import split_name

ENDS = {"start": "end", "begin": "finish", "min": "max", "minimum": "maximum", "first": "last", "lower": "upper"}
"""Words for the two ends of any range."""
TIMES = {"from": "to", "since": "until", "after": "before", "in": "out", "departure": "return"}
"""Words for the two ends of a range of time. What is moved goes from any number to any other."""


def sort_bounds(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the two ends of each range in their order: no end lies before its start."""
    for name in arguments:
        for low, high in (*ENDS.items(), *TIMES.items()):
            words = [high if word == low else word for word in split_name(name)]
            other = next((one for one in arguments if one != name and split_name(one) == words), None)
            if other is not None and _is_after(arguments[name], arguments[other], low in TIMES):
                arguments = {**arguments, name: arguments[other], other: arguments[name]}
    return arguments


def _is_after(first: Any, second: Any, times_alone: bool) -> bool:
    """Whether two dates, or two numbers, stand in the wrong order."""
    if isinstance(first, str) and isinstance(second, str):
        return first[:2] == second[:2] == "20" and first > second
    numbers = {type(first), type(second)} <= {int, float}
    return numbers and not times_alone and bool(first > second)
