"""The sources of requests: our own generator, and a teacher. Each fills a selection, in rounds.

What a round leaves missing, because filters refused it, the next one makes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from dualtune_mlx.synthesis.dated_calls import draw_date
from dualtune_mlx.synthesis.filters import NearDuplicates, find_rejection
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.phrasing import generate
from dualtune_mlx.synthesis.selection import SEVERAL, UNSERVED, Outcome, Selection, share_out
from dualtune_mlx.synthesis.teacher.asking import Asker
from dualtune_mlx.synthesis.teacher.budget import Spent
from dualtune_mlx.synthesis.teacher.source import plan_wanted, word_all
from dualtune_mlx.synthesis.worded_requests import WordedRequest
from dualtune_mlx.tools import Tool

ROUNDS = 4
"""Rounds at most."""
REQUESTS_PER_DATE, MOST_DATES = 4, 20
"""Generated requests of each tool that share the date of their conversations, and dates at most."""


@dataclass(frozen=True)
class RequestMade:
    """A source has made another request of its round, good or not."""

    source: str
    """``generator`` or ``teacher``."""
    number: int
    """The round, from 1."""
    done: int
    """Requests that were made in it."""
    wanted: int
    """Requests that it makes."""
    spent: Spent
    """What the teacher has cost, in all runs."""


@dataclass(frozen=True)
class Job:
    """What every source is given."""

    tools: Sequence[Tool]
    """All tools."""
    options: SynthesisOptions
    """What was asked for."""
    values: Mapping[str, Sequence[Any]]
    """Values that servers really hold."""
    duplicates: NearDuplicates
    """What was kept before, also by another source."""
    report: Callable[[RequestMade], object]
    """Called with each request that was made."""


def fill_by_generator(job: Job, requests: int) -> Selection:
    """Make requests without a teacher. The generator's first round says how many each tool gets.

    Raises:
        ToolError: when no call of a tool can be planned.
    """
    selection = Selection(job.tools, {}, job.duplicates)
    for number in range(1, ROUNDS + 1):
        made = list(_generate(job, requests, random.Random(f"{job.options.seed}/{number}")))
        if number == 1:
            selection.quotas = Counter(map(selection.name_quota, made))
        for done, request in enumerate(made, 1):
            if selection.wants(request):
                selection.take(Outcome(request, *find_rejection(request, job.tools)))
            job.report(RequestMade("generator", number, done, len(made), Spent()))
        if not any(selection.missing.values()):
            break
    return selection


def _generate(job: Job, requests: int, rng: random.Random) -> Iterator[WordedRequest]:
    """Requests of conversations on several dates, with some for each tool on each."""
    dates = max(1, min(MOST_DATES, requests // (REQUESTS_PER_DATE * len(job.tools))))
    for number in range(dates):
        count = requests * (number + 1) // dates - requests * number // dates
        yield from generate(job.tools, count, rng.randrange(2**32), job.values, draw_date(rng), job.options.styles)


async def fill_by_teacher(job: Job, requests: int, asker: Asker) -> Selection:
    """Have a teacher make requests. When its budget is spent, the selection is what was made until then.

    Raises:
        ToolError: when no call of a tool can be planned.
        EndpointError: when the teacher fails at question after question.
    """
    options = job.options
    selection = Selection(job.tools, share_out(requests, job.tools, options.several, options.unserved), job.duplicates)
    for number in range(1, ROUNDS + 1):
        missing = selection.missing
        counts = [missing[label] for label in selection.labels]
        rng = random.Random(f"{options.seed}/{number}")
        others = missing[SEVERAL], missing[UNSERVED]
        wanted = plan_wanted(job.tools, counts, *others, options.styles, rng, job.values)
        report = _count_requests(job, number, len(wanted), asker)
        for outcome in await word_all(wanted, job.tools, options.language, asker, report):
            if outcome is not None:
                selection.take(outcome)
        if asker.budget.exceeded or not any(selection.missing.values()):
            break
    return selection


def _count_requests(job: Job, number: int, wanted: int, asker: Asker) -> Callable[[object], object]:
    done = count(1)
    return lambda _: job.report(RequestMade("teacher", number, next(done), wanted, asker.budget.spent))
