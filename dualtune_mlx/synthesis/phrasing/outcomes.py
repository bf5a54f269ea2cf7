"""What tools answer, and the assistant's own words for it: a model that never sees a result does not learn to end."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dualtune_mlx.synthesis.phrasing.english import participle, pluralize
from dualtune_mlx.synthesis.phrasing.tables import actions, read_table
from dualtune_mlx.synthesis.phrasing.tool_sense import ToolSense
from dualtune_mlx.synthesis.worded_requests import WordedRequest

FAILED_SHARE = 0.2
"""The share of failures: the end comes after a failure too."""
GAP = re.compile(r"\{(\w+)\}")


def go_on(request: WordedRequest, senses: Mapping[str, ToolSense], rng: random.Random) -> WordedRequest:
    """The request with a result for each of its calls and an answer in words; no call follows one that failed."""
    table = read_table("outcomes")
    failed = rng.random() < FAILED_SHARE
    gaps = [_gaps(call.arguments, senses[call.name], rng) for call in request.calls]
    results = [_fill(rng.choice(table["success"]), one) for one in gaps]
    if failed:
        last = rng.randrange(len(results))
        results = [*results[:last], _fill(rng.choice(table["failure"]), gaps[last])]
    answer = _fill(rng.choice(table["failed" if failed else "done"]), gaps[len(results) - 1])
    return replace(request, results=tuple(results), answer=answer)


def _gaps(arguments: Mapping[str, Any], sense: ToolSense, rng: random.Random) -> dict[str, str]:
    noun = sense.things[0].noun
    texts = [value for value in arguments.values() if isinstance(value, str) and 0 < len(value) < 80]
    number = str(rng.randint(2, 400))
    return {
        "n": noun,
        "ns": pluralize(noun),
        "value": rng.choice(texts) if texts else number,
        "number": number,
        "id": "".join(rng.choices("0123456789abcdef", k=8)),
        "done": participle(actions()[sense.actions[0]].verbs[0]),
    }


def _fill(template: str, gaps: Mapping[str, str]) -> str:
    return GAP.sub(lambda match: gaps.get(match[1], match[0]), template)
