"""Requests that a teacher words: planned, asked for, checked, and chosen back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count, cycle
from typing import Any

from dualtune_mlx.synthesis.dated_calls import plan_dated_calls
from dualtune_mlx.synthesis.filters import find_rejection
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
from dualtune_mlx.tools import Tool

OF_CALLS = ("schema", "unwritable", "secret")
"""Filters that a request fails whatever its words are."""


def plan_wanted(
    tools: Sequence[Tool],
    counts: Sequence[int],
    unserved: int,
    styles: Sequence[str],
    rng: random.Random,
    values: Mapping[str, Sequence[Any]],
) -> list[Wanted]:
    """Plan what a teacher words: calls of each tool in all styles in turn, and requests that no tool serves.

    Args:
        tools: all tools.
        counts: how many calls of each.
        unserved: how many requests that sound close to a tool, and that no tool serves.
        styles: the styles.
        rng: draws the calls.
        values: values that servers really hold.
    """
    wanted = []
    for tool, number in zip(tools, counts, strict=True):
        in_turn = cycle(rng.sample(styles, len(styles)))
        wanted += [Wanted(tool, next(in_turn), planned) for planned in plan_dated_calls([tool], [number], rng, values)]
    near = cycle(rng.sample(tools, len(tools)))
    wanted += [Wanted(next(near), rng.choice(styles), None) for _ in range(unserved)]
    variants: dict[str, count[int]] = {}
    return [
        Wanted(one.tool, one.style, one.planned, next(variants.setdefault(_identify(one), count()))) for one in wanted
    ]


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
    planned = to_request(wanted, "")
    if (found := find_rejection(planned, tools))[0] in OF_CALLS:
        return Outcome(planned, *found)  # nothing private is sent, and nothing is paid for
    answer = await asker.ask(ask_for_words(wanted, tools, language), TEMPERATURE, wanted.variant)
    request = to_request(wanted, clean_words(answer.text))
    if answer.finish == "length":
        return Outcome(request, "style", "a text without an end")
    if quotes_instruction(request.text):
        return Outcome(request, "style", "the teacher repeats what it was told")
    reason, detail = find_rejection(request, tools, language)
    if reason:
        return Outcome(request, reason, detail)
    choice = await asker.ask(ask_for_tool(request.text, tools))
    chosen = read_choice(choice.text, tools)
    right = NONE if wanted.planned is None else wanted.tool
    if chosen == right:
        return Outcome(request)
    named = chosen.name if isinstance(chosen, Tool) else chosen or f"no tool of the list: {choice.text[:80]!r}"
    return Outcome(request, "teacher", f"the teacher chose {named}")
