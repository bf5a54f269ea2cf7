"""Conversations on many dates, so that "tomorrow" is not always the same day."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from dualtune_mlx.synthesis.planned_calls import PlannedCall
from dualtune_mlx.synthesis.planning import plan_calls
from dualtune_mlx.tools import Tool
from dualtune_mlx.tools.parameters import list_parameters

CALLS_PER_DATE = 8
"""Planned calls of a tool that share a date."""
FIRST_DATE, DAYS = date(2024, 1, 1), 1500
"""The dates are drawn from so many days."""


def plan_dated_calls(
    tools: Sequence[Tool], counts: Sequence[int], rng: random.Random, values: Mapping[str, Sequence[Any]] | None = None
) -> Iterator[PlannedCall]:
    """Plan calls of tools, in the order of the tools; those of a tool that takes dates have a date of their own.

    Args:
        tools: the tools.
        counts: how many calls of each.
        rng: draws everything.
        values: values that servers really hold.

    Raises:
        ToolError: as ``plan_calls`` does.
    """
    for tool, number in zip(tools, counts, strict=True):
        dated = any(parameter.is_date for parameter in list_parameters(tool))
        for start in range(0, number, CALLS_PER_DATE):
            today = draw_date(rng) if dated else ""
            yield from plan_calls([tool], [min(CALLS_PER_DATE, number - start)], rng, values, today)


def draw_date(rng: random.Random) -> str:
    """The date of a conversation, such as 2026-11-30."""
    return (FIRST_DATE + timedelta(rng.randrange(DAYS))).isoformat()
