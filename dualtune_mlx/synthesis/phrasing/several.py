"""Two or three planned calls in one request, with the words of each marked as a subtask."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from dualtune_mlx.synthesis.conjunctions import ORDER_CONJUNCTIONS, join, place_numbers
from dualtune_mlx.synthesis.phrasing.english import capitalize
from dualtune_mlx.synthesis.phrasing.tool_sense import ToolSense
from dualtune_mlx.synthesis.phrasing.wording import word_order
from dualtune_mlx.synthesis.planned_calls import PlannedCall
from dualtune_mlx.synthesis.subtask_markup import parse_markup
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import ToolCall

DRAWS = 3
"""Of so many wordings, the shortest is taken: together they must not be endless."""
HIDE = str.maketrans("«»", "\ue000\ue001")
"""What hides an order's own quotation marks, which mark subtasks."""
SHOW = str.maketrans("\ue000\ue001", "«»")


def word_several(planned: Sequence[PlannedCall], rng: random.Random, senses: Mapping[str, ToolSense]) -> WordedRequest:
    """One request for two or three calls; its subtasks are the words that each of them is for."""
    orders = [_word_briefly(one, rng, senses[one.tool.name]) for one in planned]
    listed = [one for split in ORDER_CONJUNCTIONS.values() for one in split if len(place_numbers(one)) == len(planned)]
    conjunction = rng.choice(listed)
    marked = join(conjunction, [order.translate(HIDE) for order in orders])
    text, subtasks = parse_markup(marked)
    subtasks = tuple(subtask.translate(SHOW) for subtask in subtasks)
    calls = tuple(ToolCall(one.tool.name, dict(one.arguments), one.tool.server) for one in planned)
    return WordedRequest(
        text.translate(SHOW), calls, "generator", "imperative", f"several: {conjunction}", subtasks, planned[0].today
    )


def _word_briefly(planned: PlannedCall, rng: random.Random, sense: ToolSense) -> str:
    """The shortest of a few orders, with a capital letter."""
    return min(
        (capitalize(word_order(planned, rng, sense).text) for _ in range(DRAWS)), key=lambda text: len(text.split())
    )
