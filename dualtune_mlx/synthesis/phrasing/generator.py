"""A whole set of requests for the tools of a user, balanced over the tools."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from dualtune_mlx.synthesis.phrasing.outcomes import go_on
from dualtune_mlx.synthesis.phrasing.several import word_several
from dualtune_mlx.synthesis.phrasing.tool_sense import understand
from dualtune_mlx.synthesis.phrasing.unserved import Unserved
from dualtune_mlx.synthesis.phrasing.wording import STYLES, word_alike, word_call
from dualtune_mlx.synthesis.planned_calls import PlannedCall
from dualtune_mlx.synthesis.planning import plan_calls, plan_contrasts
from dualtune_mlx.synthesis.planning.calls import Values
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool

UNSERVED_SHARE = 0.135
"""The share of requests that no tool serves."""
SEVERAL_SHARE = 0.08
"""The share of requests for two or three calls."""
CONTRAST_SHARE = 0.1
"""The share of requests in pairs that are worded alike and differ in one thing, where tools are easily confused."""
GOES_ON = 1 / 16
"""The share of requests with calls behind which results and an answer in words stand."""
RIVAL_WEIGHT = 0.2
"""How much more often a tool is asked for, for each tool like it; of up to five."""


def generate(
    tools: Sequence[Tool],
    count: int,
    seed: int,
    values: Values | None = None,
    today: str = "",
    styles: Sequence[str] = STYLES,
) -> Iterator[WordedRequest]:
    """Requests for these tools, in an order drawn at random.

    Each tool gets its share, confusable ones more; some requests ask for several calls, some for what no tool does.

    Args:
        tools: the tools.
        count: how many requests.
        seed: of the random numbers: the same seed, the same requests.
        values: values that servers really hold, which some of the arguments have (``planning.plan_calls``).
        today: the date of the conversations; "" for none.
        styles: the styles of requests for one call.

    Raises:
        ToolError: when no call of a tool can be planned.
    """
    rng = random.Random(seed)
    senses = understand(tools)
    unserved = round(count * UNSERVED_SHARE)
    several = round(count * SEVERAL_SHARE) if len(tools) > 1 else 0
    sizes = [rng.choice((2, 2, 2, 2, 3)) if len(tools) > 2 else 2 for _ in range(several)]
    weights = [1 + RIVAL_WEIGHT * min(len(senses[tool.name].rivals), 5) for tool in tools]
    pairs = round(count * CONTRAST_SHARE / 2)
    requests: list[WordedRequest] = []
    for pair in plan_contrasts(tools, pairs, rng, values, today):
        requests += word_alike(pair, rng.choice(styles), rng, senses)
    counts = _share_out(count - unserved - several + sum(sizes) - len(requests), weights)
    planned = list(plan_calls(tools, counts, rng, values, today))
    rng.shuffle(planned)
    requests += [word_several(group, rng, senses) for group in _take_groups(planned, sizes)]
    requests += [word_call(one, rng.choice(styles), rng, senses[one.tool.name]) for one in planned]
    requests = [go_on(one, senses, rng) if rng.random() < GOES_ON else one for one in requests]
    nothing = Unserved(tools, senses)
    requests += [nothing.draw(rng) for _ in range(unserved)]
    rng.shuffle(requests)
    yield from requests


def _share_out(count: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in the proportion of the weights whose sum is ``count``."""
    total, done, shares, given = sum(weights), 0.0, [], 0
    for weight in weights:
        done += weight
        shares.append(round(count * done / total) - given)
        given += shares[-1]
    return shares


def _take_groups(planned: list[PlannedCall], sizes: Sequence[int]) -> Iterator[list[PlannedCall]]:
    """Groups of calls of different tools, which are taken out of the list."""
    for size in sizes:
        group: list[PlannedCall] = []
        for at in range(len(planned) - 1, -1, -1):
            if planned[at].tool.name not in {one.tool.name for one in group}:
                group.append(planned.pop(at))
            if len(group) == size:
                break
        if len(group) > 1:
            yield group
        else:
            planned += group
