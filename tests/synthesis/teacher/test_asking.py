"""Asking a teacher: the journal, the budget, and what is tried again."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from dualtune_mlx.chat import ChatPiece, EndpointError
from dualtune_mlx.errors import DataError
from dualtune_mlx.synthesis.teacher import asking
from dualtune_mlx.synthesis.teacher.asking import Asker, Asking, Unanswered, Waiting
from dualtune_mlx.synthesis.teacher.backends import write_text
from dualtune_mlx.synthesis.teacher.budget import Budget, BudgetSpent, Limits, Spent
from dualtune_mlx.synthesis.teacher.journal import JOURNAL, Answer, Journal

TURNS = [{"role": "user", "content": "word it"}]


class Scripted:
    """A backend that does one thing after the other: it gives a text, or raises."""

    name, most_in_flight = "scripted", 8

    def __init__(self, *does: str | EndpointError) -> None:
        self.does, self.asked = list(does), []

    @asynccontextmanager
    async def open(self, in_flight, seconds):
        yield None

    async def stream(self, connections, turns, max_tokens, temperature):
        self.asked.append((turns, temperature))
        does = self.does.pop(0)
        await asyncio.sleep(0)
        if isinstance(does, EndpointError):
            raise does
        yield ChatPiece(does, "stop", (30, 7))


def failure(status: int = 0, retry_after: float = 0.0, got: str = "cut") -> EndpointError:
    error = EndpointError("the endpoint failed", got=got)
    error.status, error.retry_after = status, retry_after
    return error


def ask(folder, backend, *questions, limits=Limits(), report=lambda event: None):  # noqa: B008
    """Ask all at once; the answers or errors, and what was spent."""

    async def work():
        with Journal(folder) as journal:
            async with Asker(backend, journal, limits, Asking(), report) as asker:
                asked = (asker.ask(TURNS, 1.0, question) for question in questions)
                return await asyncio.gather(*asked, return_exceptions=True), asker.budget.spent

    return asyncio.run(work())


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)


def test_an_answer_is_asked_for_once(tmp_path):
    backend = Scripted("<think>hm</think> one", "two")
    answers, spent = ask(tmp_path, backend, 0, 0, 1)
    assert answers == [Answer("one", "stop"), Answer("one", "stop"), Answer("two", "stop")]
    assert spent == Spent(2, 60, 14) and len(backend.asked) == 2
    assert ask(tmp_path, Scripted(), 0, 1) == ([Answer("one", "stop"), Answer("two", "stop")], spent)


def test_a_journal_that_was_cut_loses_its_last_line_alone(tmp_path):
    ask(tmp_path, Scripted("one", "two"), 0, 1)
    path = tmp_path / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-9])
    assert ask(tmp_path, Scripted("again"), 0, 1)[0] == [Answer("one", "stop"), Answer("again", "stop")]
    assert ask(tmp_path, Scripted(), 0, 1)[0] == [Answer("one", "stop"), Answer("again", "stop")]


@pytest.mark.parametrize("line", ['{"key": "a"}', "[]", "no", '{"key": "a", "text": "b", "finish": "c", "spent": 1}'])
def test_another_file_is_no_journal(line, tmp_path):
    (tmp_path / JOURNAL).write_text(line + "\n")
    with pytest.raises(DataError, match=f"{JOURNAL}:1"):
        Journal(tmp_path)


@pytest.mark.parametrize("error", [failure(), failure(429), failure(503), failure(408), failure(429, 0.01)])
def test_what_may_pass_is_tried_again(error, tmp_path):
    events: list[Waiting] = []
    answers, spent = ask(tmp_path, Scripted(error, error, "one"), 0, report=events.append)
    assert answers == [Answer("one", "stop")] and spent.requests == 3
    assert [event.why for event in events] == ["cut", "cut"]
    failed = [json.loads(line)["spent"] for line in (tmp_path / JOURNAL).read_text().splitlines()[:2]]
    assert all((one[1] > 0) is (error.status == 0) for one in failed)  # a refusal costs no token, half an answer does


def test_waits_grow_and_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "FIRST_TRIES", 6)
    events: list[Waiting] = []
    ask(tmp_path, Scripted(*[failure(500)] * 5, "one"), 0, report=events.append)
    waits = [event.seconds / asking.FIRST_WAIT / 2**number for number, event in enumerate(events)]
    assert len(waits) == 5 and all(0.5 <= wait <= 1.5 for wait in waits) and len(set(waits)) == 5


@pytest.mark.parametrize(
    ("error", "tries", "kind"),
    [
        (failure(400), 1, Unanswered),
        (failure(422), 1, Unanswered),
        (failure(401), 1, EndpointError),
        (failure(404), 1, EndpointError),
        (failure(429, 3600), 1, Unanswered),
        (failure(500), asking.FIRST_TRIES, Unanswered),
    ],
)
def test_what_will_not_pass_is_not_tried_again(error, tries, kind, tmp_path):
    backend = Scripted(*[error] * 6)
    (caught,), _ = ask(tmp_path, backend, 0)
    assert isinstance(caught, kind) and len(backend.asked) == tries


def test_a_budget_sets_aside_the_most_that_a_request_can_cost(tmp_path):
    answers, spent = ask(tmp_path, Scripted("one", "two"), 0, 1, 2, limits=Limits(requests=2))
    assert answers[:2] == [Answer("one", "stop"), Answer("two", "stop")]
    assert isinstance(answers[2], BudgetSpent) and str(answers[2]) == "2 requests" and spent.requests == 2
    again, _ = ask(tmp_path, Scripted(), 3, limits=Limits(requests=2))
    assert isinstance(again[0], BudgetSpent)  # what was spent before counts


def test_limits_are_kept_while_requests_are_on_their_way():
    budget = Budget(Limits(tokens=100), Spent())
    most = Spent(1, 20, 25)
    budget.reserve(most)
    budget.reserve(most)
    with pytest.raises(BudgetSpent, match="100 tokens"):
        budget.reserve(most)
    budget.settle(most, Spent(1, 20, 5))
    budget.settle(most, Spent(1, 20, 5))
    budget.reserve(most)
    assert budget.spent.tokens == 50 and budget.exceeded == "100 tokens"


def test_money_is_counted_by_prices():
    limits = Limits(money=0.5, price_read=1, price_written=4)
    assert limits.price(Spent(9, 100_000, 100_000)) == 0.5
    assert limits.find_exceeded(Spent(9, 100_000, 100_000)) == ""
    assert limits.find_exceeded(Spent(9, 100_001, 100_000)) == "0.5 of money"


def test_an_endless_text_is_left():
    left = []

    async def endless():
        try:
            while True:
                yield ChatPiece("on and on ")
        finally:
            left.append(True)

    assert asyncio.run(write_text(endless(), 25)) == ("on and on on and on on an", "length", None)
    assert left == [True]
