"""The run that makes requests for a list of tools: sources, filters, ``requests.jsonl`` and ``rejected.jsonl``.

synthesize(read_tools("data/tools.json"), "data", SynthesisOptions(requests=500))
synthesize(tools, "data", options, Teaching(open_backend("http://localhost:8080/v1", "big"), Limits(tokens=1_000_000)))

It can be stopped at any moment. What a teacher has answered is in its journal; everything else follows from the seed.
So a run that is started again gives the same files as one that was never stopped, and asks nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from dualtune_mlx.errors import UsageError
from dualtune_mlx.files import (
    atomic_files,
    lock_folder,
    parse_json,
    read_text,
    remove_leftovers,
    write_json,
    write_text,
)
from dualtune_mlx.synthesis.filters import NearDuplicates
from dualtune_mlx.synthesis.filters.language import ENGLISH, load_identifier
from dualtune_mlx.synthesis.options import SynthesisOptions
from dualtune_mlx.synthesis.selection import Selection, rejected_line
from dualtune_mlx.synthesis.sources import Job, RequestMade, fill_by_generator, fill_by_teacher
from dualtune_mlx.synthesis.teacher import Teaching
from dualtune_mlx.synthesis.teacher.asking import Asker, Waiting
from dualtune_mlx.synthesis.teacher.budget import Spent
from dualtune_mlx.synthesis.teacher.journal import Journal
from dualtune_mlx.synthesis.teacher.trial import ENOUGH, Trial, try_teacher
from dualtune_mlx.tools import Tool

REQUESTS, REJECTED, SUMMARY = "requests.jsonl", "rejected.jsonl", "synthesis.json"
Result = TypeVar("Result")


@dataclass(frozen=True)
class TeacherTried:
    """The teacher was tried on the user's own requests."""

    trial: Trial


SynthesisEvent = TeacherTried | RequestMade | Waiting


@dataclass(frozen=True)
class Summary:
    """What a run has made."""

    kept: int
    """Requests in ``requests.jsonl``."""
    tools: Mapping[str, tuple[int, int]]
    """Requests that were kept and that were wanted, by the tool's label, ``no tool`` and ``several tools``."""
    rejected: Mapping[str, int]
    """Requests in ``rejected.jsonl``, by the filter that refused them."""
    spent: Spent
    """What the teacher has cost, in all runs of the folder."""
    money: float
    """The price of that."""
    unanswered: int
    """Questions that the teacher did not answer; the next run asks them again."""
    exceeded: str
    """The limit that ended the run, in words; "" where none did."""

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {**asdict(self), "tools": {name: list(counts) for name, counts in self.tools.items()}}


def synthesize(
    tools: Sequence[Tool],
    folder: str | Path,
    options: SynthesisOptions | None = None,
    teaching: Teaching | None = None,
    *,
    values: Mapping[str, Sequence[Any]] | None = None,
    report: Callable[[SynthesisEvent], object] = lambda event: None,
) -> Summary:
    """Make requests for tools, and write those that pass all filters into ``requests.jsonl``, the others, each with its
    reason, into ``rejected.jsonl``.

    Args:
        tools: all tools.
        folder: the data folder. Where it has a ``test.jsonl``, the teacher is tried on it first.
        options: what is asked for.
        teaching: the teacher; our own generator alone without one.
        values: values that servers really hold, by ``server/tool/path`` or by a parameter's name.
        report: called with every event.

    Raises:
        UsageError: when another language is asked of the generator, the teacher is not good enough, another run works
            in the folder, or somebody has changed ``requests.jsonl``.
        ToolError: when no call of a tool can be planned.
        EndpointError: when the teacher fails at question after question. The same call goes on from there.
    """
    folder, options = Path(folder), options or SynthesisOptions()
    if options.language != ENGLISH and (teaching is None or options.teacher_share < 1):
        raise UsageError(
            "only a teacher words requests in another language",
            got=options.language,
            fix=f"name a teacher and leave everything to it, or leave the language out, which is {ENGLISH}",
        )
    with lock_folder(folder, "another run makes requests in this folder"):
        remove_leftovers(folder)
        _check_unchanged(folder)
        job = Job(tools, options, values or {}, NearDuplicates(), report)
        by_teacher = round(options.requests * options.teacher_share) if teaching else 0
        selections, spending = [], Spending()
        if teaching and by_teacher:
            load_identifier()  # here, because nothing may stop the requests in flight for so long
            taught = _teach(job, folder, by_teacher, teaching, report)
            selection, spending = _run(taught)
            selections.append(selection)
        if by_teacher < options.requests:
            selections.append(fill_by_generator(job, options.requests - by_teacher))
        return _write(folder, selections, spending)


@dataclass(frozen=True)
class Spending:
    """What a teacher has cost, and what it did not do."""

    spent: Spent = Spent()  # noqa: RUF009
    money: float = 0.0
    unanswered: int = 0
    exceeded: str = ""


async def _teach(
    job: Job,
    folder: Path,
    requests: int,
    teaching: Teaching,
    report: Callable[[SynthesisEvent], object],
) -> tuple[Selection, Spending]:
    with Journal(folder) as journal:
        async with Asker(teaching.backend, journal, teaching.limits, teaching.asking, report) as asker:
            trial = await try_teacher(folder, job.tools, asker)
            if trial.asked:
                report(TeacherTried(trial))
            if not trial.passed and not teaching.confirm(trial):
                raise UsageError(
                    "the teacher is right too seldom",
                    where=teaching.backend.name,
                    got=f"the right tool for {trial.right} of {trial.asked} of your own requests",
                    expected=f"at least {ENOUGH:.0%}",
                    fix="use a better teacher, or go on all the same with --yes",
                )
            selection = await fill_by_teacher(job, requests, asker)
            budget = asker.budget
            return selection, Spending(
                budget.spent, teaching.limits.price(budget.spent), asker.unanswered, budget.exceeded
            )


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _write(folder: Path, selections: Sequence[Selection], spending: Spending) -> Summary:
    kept = [request for selection in selections for request in selection.kept]
    rejected = [outcome for selection in selections for outcome in selection.rejected]
    wanted: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for selection in selections:
        wanted.update(selection.quotas)
        counts.update(selection.counts)
    summary = Summary(
        len(kept),
        {name: (counts[name], number) for name, number in wanted.items() if number},
        dict(Counter(outcome.reason for outcome in rejected)),
        **vars(spending),
    )
    text = _to_lines(request.to_line() for request in kept)
    with atomic_files(folder) as temporary:
        write_text(temporary / REJECTED, _to_lines(map(rejected_line, rejected)))
        write_json(temporary / SUMMARY, {"version": 1, "sha256": [_hash(text)], **summary.to_dict()})
        write_text(temporary / REQUESTS, text)
    return summary


def _to_lines(lines: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_requests(folder: Path) -> list[str]:
    """The hash of the requests that are there; none where there are none."""
    path = folder / REQUESTS
    return [_hash(read_text(path))] if path.exists() else []


def _check_unchanged(folder: Path) -> None:
    """Check that no request is lost that somebody has written by hand."""
    path = folder / SUMMARY
    known = parse_json(read_text(path), "the summary is not JSON", path) if path.exists() else {}
    ours = known.get("sha256", ()) if isinstance(known, dict) else ()
    if not set(_hash_requests(folder)) <= set(ours):
        raise UsageError(
            "the requests were changed since they were made, and would be overwritten",
            where=folder / REQUESTS,
            fix="keep them under another name, and remove this file",
        )
