"""Requests that a teacher words: planned, asked for, checked, and chosen back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count, cycle
from typing import Any

from dualtune_mlx.synthesis.dated_calls import draw_date, plan_dated_calls
from dualtune_mlx.synthesis.filters import find_rejection
from dualtune_mlx.synthesis.planning import plan_calls
from dualtune_mlx.synthesis.selection import Outcome
from dualtune_mlx.synthesis.teacher.asking import Asker, Unanswered
from dualtune_mlx.synthesis.teacher.budget import BudgetSpent
from dualtune_mlx.synthesis.teacher.choosing import NONE, ask_for_tool, read_choice
from dualtune_mlx.synthesis.teacher.wording import (
    TEMPERATURE,
    Wanted,
    ask_for_words,
    clean_words,
    quotes_instruction,
    to_request,
)
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool

OF_CALLS = ("schema", "unwritable", "secret")
"""Filters that a request fails whatever its words are."""


def plan_wanted(
    tools: Sequence[Tool],
    counts: Sequence[int],
    several: int,
    unserved: int,
    styles: Sequence[str],
    rng: random.Random,
    values: Mapping[str, Sequence[Any]],
) -> list[Wanted]:
    """Plan what a teacher words: calls of each tool in all styles in turn, and requests that no tool serves.

    Args:
        tools: all tools.
        counts: how many calls of each.
        several: how many requests for two or three calls of different tools.
        unserved: how many requests that sound close to a tool, and that no tool serves.
        styles: the styles.
        rng: draws the calls.
        values: values that servers really hold.
    """
    wanted = []
    for tool, number in zip(tools, counts, strict=True):
        in_turn = cycle(rng.sample(styles, len(styles)))
        wanted += [Wanted(tool, next(in_turn), (one,)) for one in plan_dated_calls([tool], [number], rng, values)]
    wanted += [_plan_several(tools, styles, rng, values) for _ in range(several)]
    near = cycle(rng.sample(tools, len(tools)))
    wanted += [Wanted(next(near), rng.choice(styles), ()) for _ in range(unserved)]
    variants: dict[str, count[int]] = {}
    return [
        Wanted(one.tool, one.style, one.planned, next(variants.setdefault(_identify(one), count()))) for one in wanted
    ]


def _plan_several(
    tools: Sequence[Tool], styles: Sequence[str], rng: random.Random, values: Mapping[str, Sequence[Any]]
) -> Wanted:
    some = rng.sample(tools, min(len(tools), rng.choice((2, 2, 3))))
    planned = tuple(plan_calls(some, [1] * len(some), rng, values, draw_date(rng)))
    return Wanted(some[0], rng.choice(styles), planned)


def _identify(wanted: Wanted) -> str:
    return repr((wanted.tool.server, wanted.tool.name, wanted.style, wanted.planned))


async def word_all(
    wanted: Sequence[Wanted],
    tools: Sequence[Tool],
    language: str,
    asker: Asker,
    report: Callable[[Outcome | None], object],
) -> list[Outcome | None]:
    """Have a teacher word requests, several at once.

    Args:
        wanted: what it shall word.
        tools: all tools.
        language: the language of the requests.
        asker: asks the teacher.
        report: called with each outcome as it comes.

    Returns:
        The outcomes in the order of ``wanted``; None where there is none: the teacher did not answer, or the budget is
        spent.

    Raises:
        EndpointError: when the teacher fails at question after question.
    """

    places = asyncio.Semaphore(asker.in_flight)  # what was begun is ended first, in case the budget ends

    async def word(one: Wanted) -> Outcome | None:
        outcome = None
        async with places:
            with suppress(Unanswered, BudgetSpent):
                outcome = await _word(one, tools, language, asker)
        report(outcome)
        return outcome

    tasks = [asyncio.create_task(word(one)) for one in wanted]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _word(wanted: Wanted, tools: Sequence[Tool], language: str, asker: Asker) -> Outcome:
    blank = to_request(wanted, "")
    if (found := find_rejection(blank, tools))[0] in OF_CALLS:
        return Outcome(blank, *found)  # nothing private is sent, and nothing is paid for
    answer = await asker.ask(ask_for_words(wanted, tools, language), TEMPERATURE, wanted.variant)
    request = to_request(wanted, clean_words(answer.text))
    if answer.finish == "length":
        return Outcome(replace(request, subtasks=()), "style", "a text without an end")
    if len(wanted.planned) > 1 and len(request.subtasks) != len(wanted.planned):
        detail = f"{len(request.subtasks)} marked subtasks for {len(wanted.planned)} calls"
        return Outcome(replace(request, subtasks=()), "style", detail)
    if quotes_instruction(request.text):
        return Outcome(request, "style", "the teacher repeats what it was told")
    reason, detail = find_rejection(request, tools, language)
    if not reason and (detail := await _choose_back(request, wanted, tools, asker)):
        reason = "teacher"
    return Outcome(request, reason, detail)


async def _choose_back(request: WordedRequest, wanted: Wanted, tools: Sequence[Tool], asker: Asker) -> str:
    """Which wrong tool the teacher chooses for the request, or for one of its subtasks; "" where all are right."""
    texts = request.subtasks or (request.text,)
    right: Sequence[Tool | str] = [one.tool for one in wanted.planned] or [NONE]
    for text, tool in zip(texts, right, strict=True):
        answer = (await asker.ask(ask_for_tool(text, tools))).text
        chosen = read_choice(answer, tools)
        if chosen != tool:
            named = chosen.name if isinstance(chosen, Tool) else chosen or f"no tool of the list: {answer[:80]!r}"
            return f"the teacher chose {named}"
    return ""
